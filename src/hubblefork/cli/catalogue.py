"""The commands of catalogues: gallery, catalogue check, catalogue convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hubblefork.cli.terminal import USE, bar, reading_images, show
from hubblefork.errors import extras

app = typer.Typer()
catalogue = typer.Typer(
    no_args_is_help=True, help="Check a catalogue in shards; write one in another format."
)
app.add_typer(catalogue, name="catalogue", rich_help_panel=USE)
EXAMPLE = Path("mock-gallery")


@catalogue.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A catalogue in shards: the folder that predict wrote.")],
) -> None:
    """List every fault of a catalogue in shards, and what is missing of it. The status is 1 if there is any.

    Example: hubblefork catalogue check catalogue/
    """
    from hubblefork.tables.checks import check_folder

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
    from hubblefork.tables.published import convert as write

    notes = write(source, target, progress=bar)
    show(*(f"note: {note}" for note in notes), f"{target}: written")


@app.command(rich_help_panel=USE)
@reading_images
def gallery(
    catalogue: Annotated[
        Path | None, typer.Argument(help="A catalogue, predicted or volunteers'. Default: a mock sky's.")
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option(help="Its images: an archive, a folder or a list. May be repeated.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Volunteers' votes to show beside.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Another catalogue to compare with.")] = None,
    model: Annotated[str, typer.Option(help="The network that looks at dropped images.")] = "fork",
    host: Annotated[
        str, typer.Option(help="The address to listen at; beyond this machine with a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen at; 0 takes a free one.")
    ] = 8600,
    reading: Any = None,
    browse: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Browse, search, compare and mark a catalogue in local pages.

    Example: hubblefork gallery catalogue.parquet --images tiles/
    """
    with extras("the gallery"):
        from hubblefork.gallery.gallery import example, open_gallery
        from hubblefork.gallery.server import serve

    if catalogue is None:
        catalogue, *images = example(EXAMPLE, bar)
    shown = open_gallery(
        catalogue, images or [], labels=labels, compare=compare, model=model, reading=reading
    )
    if shown.store.layout:
        typer.echo(f"{catalogue}: read as {shown.store.layout}", err=True)
    serve(shown, host=host, port=port, browse=browse, say=typer.echo)
