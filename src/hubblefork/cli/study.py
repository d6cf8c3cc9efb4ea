"""The verbs of `hubblefork study`: whole studies, each one command and one page."""

from __future__ import annotations

import typer

study = typer.Typer(help="Run a whole study and write its page.", no_args_is_help=True)
