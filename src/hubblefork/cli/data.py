"""The commands that make data: fetch, ingest, split, mock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import hubblefork as hf
from hubblefork.cli.terminal import (
    DATA,
    Data,
    JudgeOn,
    Layout,
    Missing,
    Salt,
    Side,
    Test,
    Tree,
    Validation,
    bar,
    reading_images,
    show,
    warn,
    with_side,
)

app = typer.Typer()


@app.command(rich_help_panel=DATA)
def fetch(
    release: Annotated[str, typer.Argument(help="kaggle (needs your Kaggle credentials) or gz2.")],
    out: Annotated[Path, typer.Option(help="The folder for the files.")],
) -> None:
    """Download the images and labels of a release. Called again, it goes on.

    Example: hubblefork fetch gz2 --out gz2/
    """
    from hubblefork.data.releases import fetch as download
    from hubblefork.data.releases import load_release

    terms = load_release(release)
    typer.echo(f"{terms.title}. {terms.terms}\nCite: {'; '.join(terms.citations)}")
    download(release, out, progress=bar)
    typer.echo(f"Next: hubblefork ingest {out} --out data/")


@app.command(rich_help_panel=DATA)
@reading_images
def ingest(
    inputs: Annotated[
        list[str], typer.Argument(help="A folder of Kaggle's files, archives, folders or tables of images.")
    ],
    out: Annotated[Path, typer.Option(help="The data folder to write.")],
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label tables: CSV, Parquet, FITS, VOTable; also zipped.")
    ] = None,
    missing: Missing = None,
    tree: Tree = "",
    layout: Layout = "",
    reading: Any = None,
    side: Side = 0,
    crop: Annotated[
        str,
        typer.Option(
            help="Refuse images that do not show so much around their galaxy: 318, '30 arcsec', '6 R90'."
        ),
    ] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad image or label.")] = False,
    salt: Salt = "hubblefork",
    test: Test = 0,
    validation: Validation = 20,
    judge_on: JudgeOn = None,
) -> None:
    """Read images and labels into one catalogue. Bad ones are listed in rejects.csv.

    Example: hubblefork ingest kaggle/ --out data/ --test 30 --validation 15
    hubblefork ingest cutouts/ --labels votes.csv --survey my.toml --out data/
    """
    from hubblefork.cli.tables import ingest_lines
    from hubblefork.data.archives import place_of
    from hubblefork.data.ingest import ingest as read
    from hubblefork.data.split import Split, read_ids
    from hubblefork.zoo import load_tree

    chosen = Split(salt, test, validation, read_ids(judge_on) if judge_on else None)
    summary = read(
        [place_of(place) for place in inputs],
        out,
        labels=labels or [],
        missing=missing or [],
        tree=load_tree(tree) if tree else None,
        layout=layout,
        crop=crop,
        reading=with_side(reading, side),
        strict=strict,
        progress=bar,
    )
    show(*ingest_lines(summary, out))
    if chosen != Split():
        _split(out, chosen)


@app.command(rich_help_panel=DATA)
def split(
    data: Data,
    salt: Salt = "hubblefork",
    test: Test = 0,
    validation: Validation = 20,
    judge_on: JudgeOn = None,
) -> None:
    """Change the training, validation and test sets of a data folder. A hash of the id decides.

    Example: hubblefork split data/ --test 30 --validation 15 --judge-on unselected_ids.txt
    """
    from hubblefork.data.split import Split, read_ids

    _split(data, Split(salt, test, validation, read_ids(judge_on) if judge_on else None))


def _split(data: Path, chosen: Any) -> None:
    from hubblefork.api.skies import set_split, unknown_ids

    counts = set_split(data, chosen)
    if chosen.judge_on is not None:
        unknown = unknown_ids(data, chosen)
        example = f', for example "{unknown[0]}"' if unknown else ""
        line = f"--judge-on: {len(unknown)} of {len(chosen.judge_on)} ids are not in the catalogue{example}"
        (warn if unknown else typer.echo)(line)
    typer.echo("labelled galaxies: " + ", ".join(f"{part} {count}" for part, count in counts.items()))


@app.command(rich_help_panel=DATA)
def mock(
    folder: Annotated[Path, typer.Argument(help="The folder to write, in the layout of the survey's files.")],
    galaxies: Annotated[int, typer.Option(help="Labelled galaxies. A quarter as many get no labels.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sky.")] = 0,
    survey: Annotated[
        str, typer.Option(help="Whose images, FITS: `hubblefork info surveys`. Default: Kaggle's JPEGs.")
    ] = "",
    tree: Annotated[
        str | None, typer.Option(help="What volunteers are asked, if not the survey's tree.")
    ] = None,
    volunteers: Annotated[
        int | None, typer.Option(help="How many look at a galaxy. [default: some 47]")
    ] = None,
    merger_fraction: Annotated[float, typer.Option(help="The true fraction of mergers.")] = 0.05,
    seeing: Annotated[float, typer.Option(help="Factor on the width of the PSF.")] = 1.0,
    noise: Annotated[float, typer.Option(help="Factor on the noise of the sky.")] = 1.0,
    pixel: Annotated[float, typer.Option(help="Factor on the size of a pixel.")] = 1.0,
) -> None:
    """Draw a mock sky in the layout of a survey's files, with the truth beside it.

    Example: hubblefork mock sky/ --galaxies 1000 --volunteers 6
    """
    hf.mock_sky(
        folder,
        galaxies,
        seed=seed,
        **({"survey": survey} if survey else {}),
        tree=tree,
        volunteers=volunteers,
        merger_fraction=merger_fraction,
        seeing=seeing,
        noise=noise,
        pixel=pixel,
        progress=bar,
    )
    typer.echo(f"{folder}: a mock sky of {galaxies} labelled galaxies. The truth is in truth.parquet")
