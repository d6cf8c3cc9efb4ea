"""The command line: a command is a few lines around one call of the library."""

from __future__ import annotations

import errno
import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from hubblefork import __version__
from hubblefork.cli import catalogue, data, learning, networks, tell, terminal
from hubblefork.errors import HubbleforkError, extras
from hubblefork.io import REFUSALS

app = typer.Typer(
    help="Images of galaxies to calibrated Galaxy Zoo vote fractions, and to the science they allow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel in (data, learning, networks, catalogue, tell):
    app.add_typer(panel.app)


def main() -> None:
    """Run the command. Exit with one line and status 1 for an error, 130 for an interruption.

    What the encoding of the output does not have is shown as "?".
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        try:
            with extras("this command"):
                app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is None and error.errno not in (*REFUSALS, errno.EPIPE):
            raise
        sys.stdout = io.StringIO()  # what is left cannot be written either
        if error.errno != errno.EPIPE:
            typer.secho(f"DiskError: {_refused(error)}", fg="red", err=True)
        raise SystemExit(1) from error
    except HubbleforkError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        raise SystemExit(1) from error
    except KeyboardInterrupt as stop:
        typer.secho("Interrupted. The same command goes on where it stopped.", err=True)
        raise SystemExit(130) from stop


def _refused(error: OSError) -> str:
    if error.filename is None:
        return f"the output cannot be written: {error.strerror}"
    return f"{error.filename}: {error.strerror}; give another name, or one that you may read and write"


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hubblefork {__version__}")
        raise typer.Exit


@app.callback()
def common(
    networks: Annotated[
        Path | None,
        typer.Option(
            envvar="HUBBLEFORK_NETWORKS",
            help="A Python file that registers your own networks with timm. They are then encoder:NAME.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bars.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Set what concerns all commands."""
    terminal.quiet = quiet
    if networks is not None:
        from hubblefork.network.architectures.encoder import run_networks

        run_networks(networks)
