"""The commands of catalogues: check, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubblefork.cli.terminal import USE, bar, show

app = typer.Typer()
catalogue = typer.Typer(
    no_args_is_help=True, help="Check a catalogue in shards; write one in another format."
)
app.add_typer(catalogue, name="catalogue", rich_help_panel=USE)


@catalogue.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A catalogue in shards: the folder that predict wrote.")],
) -> None:
    """List every fault of a catalogue in shards, and what is missing of it. The status is 1 if there is any.

    Example: hubblefork catalogue check catalogue/
    """
    from hubblefork.data.checks import check_folder

    checked = check_folder(folder, progress=bar)
    show(*checked.faults, *(f"note: {note}" for note in checked.notes), str(checked))
    if checked.faults:
        raise typer.Exit(1)


@catalogue.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="A catalogue: a folder of shards, or a table in any format.")
    ],
    target: Annotated[
        Path,
        typer.Argument(help="What to write: .parquet, .csv, .fits, .vot, .hats, or a folder of shards."),
    ],
) -> None:
    """Write a catalogue in another format. FITS and VOTable have units, descriptions and UCDs.

    Example: hubblefork catalogue convert catalogue/ catalogue.fits
    """
    from hubblefork.data.published import convert as write

    write(source, target, progress=bar)
    typer.echo(f"{target}: written")
