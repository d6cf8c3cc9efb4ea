"""What several commands share: options, arguments, progress bars, and how things are shown."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from hubblefork.io import Advance

DATA, LEARN, USE, TELL = "Data", "Learn", "Use", "Tell"
"""The panels of the help."""

Data = Annotated[Path, typer.Argument(help="A data folder, written by `hubblefork ingest`.")]
Run = Annotated[Path, typer.Argument(help="A run folder, written by `hubblefork train`.")]
Model = Annotated[Path, typer.Argument(help="A run folder, a .safetensors file, `fork` or `fork-fast`.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps. Default: the best one that is there.")]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="A recipe's name, encoder:NAME of timm, or a .toml file.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting of the recipe: key=value.")
]
Weights = Annotated[
    Path | None, typer.Option(help="A .safetensors file of published weights to start the encoder from.")
]
Precision = Annotated[str, typer.Option(help="auto, 32, bf16 or fp16. Short for --set precision=….")]
Memory = Annotated[str, typer.Option(help="Stream stamps from the disk if they take more than this: 2GB.")]
Views = Annotated[int, typer.Option(help="Test-time augmentation: average over this number of views.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there already.")]
Field = Annotated[
    str | None,
    typer.Option(
        help="How much sky an image shows: 1 as much as a training image, 0.5 half; 50arcsec. "
        "Default: its pixels are as large as those of a training image."
    ),
]
Enlarge = Annotated[
    bool, typer.Option("--enlarge", help="Also use images with fewer pixels than the network sees.")
]
Survey = Annotated[
    str, typer.Option(help="The survey of FITS cutouts (`hubblefork info surveys`), or a .toml file.")
]
Bands = Annotated[str, typer.Option(help="The bands of files that do not name them, in their order: g,r,z.")]
BandFiles = Annotated[
    str, typer.Option(help='File names where each band is a file of its own: "{id}_{band}.fits".')
]
FillMissing = Annotated[
    bool, typer.Option("--fill-missing", help="Fill pixels without a value, and missing bands.")
]
Side = Annotated[
    int,
    typer.Option(
        help="Count every FITS cutout as so many pixels across, as those that show the same number of a "
        "galaxy's radii. 424 is Galaxy Zoo 2's."
    ),
]
Tree = Annotated[str, typer.Option(help="The decision tree of the labels: a name, or a .toml file.")]
Layout = Annotated[
    str,
    typer.Option(
        help="Which of several layouts of a published table: counts, dr8, fractions:dr8; dr5+dr8 adds counts."
    ),
]
Salt = Annotated[str, typer.Option(help="The name of the split. Another salt gives another split.")]
Test = Annotated[int, typer.Option(help="Per cent of the galaxies in the test set.")]
Validation = Annotated[int, typer.Option(help="Per cent of the galaxies in the validation set.")]
JudgeOn = Annotated[
    Path | None, typer.Option(help="A file of ids. All other galaxies are in the training set.")
]
Missing = Annotated[
    list[float] | None, typer.Option(help="A number that stands for a missing value: -99. May be repeated.")
]
DataNow = Annotated[
    Path | None, typer.Option("--data", help="Where the run's data folder is now, if it was moved.")
]
OnlyReport = Annotated[
    bool, typer.Option("--only-report", help="Train nothing. Write the page from what is there.")
]
Record = Annotated[
    Path | None, typer.Option(help="A folder to copy figures and numbers to, without images of galaxies.")
]

quiet = False
"""No bars: the option -q."""


def _reading(
    survey: Survey = "", bands: Bands = "", band_files: BandFiles = "", fill_missing: FillMissing = False
) -> Any:
    """Return how images are read by the options of a command. Raises RecipeError, ImageError."""
    from hubblefork.images.cutouts import Reading

    names = tuple(name.strip().lower() for name in bands.split(",") if name.strip())
    return replace(Reading.of(survey), bands=names, files=band_files, fill_missing=fill_missing)


def reading_images(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say how images are read; it has them as one `reading`."""
    options = inspect.signature(_reading, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True)

    @wraps(command)
    def with_options(**given: Any) -> None:
        asked = {name: given.pop(name) for name in options}
        command(**given, reading=_reading(**asked))

    place, parameters = [*own.parameters].index("reading"), [*own.parameters.values()]
    parameters[place : place + 1] = options.values()
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options


def with_side(reading: Any, side: int) -> Any:
    """Return a reading by which every image counts as so many pixels across; 0: as many as it has."""
    if not side:
        return reading
    if not reading.display:
        raise typer.BadParameter("--side is for images of a --survey")
    return replace(reading, display=replace(reading.display, side=side))


def settings_of(settings: list[str] | None, precision: str) -> list[str]:
    """Return the recipe's settings with the precision among them."""
    return [*(settings or []), *([f"precision={precision}"] if precision else [])]


def typed() -> list[str]:
    """Return the command as it was typed, without `--only-report`, so that it makes all of a study again."""
    return ["hubblefork", *(word for word in sys.argv[1:] if word != "--only-report")]


@contextmanager
def bar(what: str, total: int | None, done: int = 0) -> Iterator[Advance]:
    """Show one bar on standard error: a `hubblefork.io.Progress`."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description:<24}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True), disable=quiet) as bars:
        task = bars.add_task(what, total=total, completed=done)
        yield lambda steps: bars.advance(task, steps)


def show(*things: Any) -> None:
    """Print tables and lines to the terminal; what a line holds is no markup."""
    from rich.console import Console

    console = Console()
    for thing in things:
        console.print(thing, markup=not isinstance(thing, str), crop=False)


def warn(*lines: str) -> None:
    """Print warnings on standard error."""
    for line in lines:
        typer.secho(f"warning: {line}", fg="yellow", err=True)
