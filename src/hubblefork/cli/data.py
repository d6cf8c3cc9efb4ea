"""The commands that make data: fetch, ingest, split, mock, zooniverse votes, zooniverse subjects."""

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
    Overwrite,
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
zooniverse = typer.Typer(
    no_args_is_help=True, help="From volunteers' classifications to votes, from predictions to subjects."
)
app.add_typer(zooniverse, name="zooniverse", rich_help_panel=DATA)


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
    from hubblefork.data.ingest import ingest as read
    from hubblefork.data.split import Split, read_ids
    from hubblefork.images.archives import place_of
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


@zooniverse.command()
def votes(
    export: Annotated[
        Path,
        typer.Argument(help="A classification export: a CSV of Panoptes or Ouroboros, may be compressed."),
    ],
    out: Annotated[Path, typer.Option(help="The table of votes to write: .parquet, .csv, .fits or .vot.")],
    tree: Tree = "galaxy_zoo_2",
    tasks: Annotated[
        Path | None, typer.Option(help="A TOML file: which task is which question of the tree.")
    ] = None,
    id_name: Annotated[
        str,
        typer.Option(
            "--id", help="What names a galaxy in a subject's metadata. Default: galaxy_id, id_str …"
        ),
    ] = "",
    workflow: Annotated[str, typer.Option(help="Count one workflow: its id or its name.")] = "",
    workflow_version: Annotated[
        list[str] | None, typer.Option(help="Count this version: 66 or 66.425. May be repeated.")
    ] = None,
    gold_standard: Annotated[
        bool, typer.Option("--gold-standard", help="Count experts in gold-standard mode too.")
    ] = False,
) -> None:
    """Count the votes in an export of classifications, one row a galaxy. Bad rows are listed beside.

    Example: hubblefork zooniverse votes classifications.csv --tree my.toml --out votes.parquet
    """
    from hubblefork.cli.tables import votes_lines

    summary = hf.count_votes(
        export,
        out,
        tree=tree,
        tasks=tasks,
        id_name=id_name,
        workflow=workflow,
        versions=workflow_version or [],
        gold_standard=gold_standard,
        progress=bar,
    )
    show(*votes_lines(summary, out))


@zooniverse.command()
def subjects(
    catalogues: Annotated[
        list[Path],
        typer.Argument(
            help="A catalogue of predictions; several say by their differences how sure they are."
        ),
    ],
    images: Annotated[
        list[str], typer.Option(help="An archive, folder or table of images. May be repeated.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write, or to go on with.")],
    count: Annotated[int, typer.Option(help="How many subjects.")] = 1000,
    order: Annotated[
        str, typer.Option(help="information: what a volunteer would tell most about. random: a fair sample.")
    ] = "information",
    seed: Annotated[int, typer.Option(help="Another seed draws another sample.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write a set of subjects for volunteers: a manifest, and a PNG of each galaxy. Called again, it goes on.

    Example: hubblefork zooniverse subjects predictions.parquet --images cutouts/ --out subjects/ --count 500
    """
    made = hf.subject_set(
        catalogues, images, out, count=count, order=order, seed=seed, overwrite=overwrite, progress=bar
    )
    refused = f"; {made.rejects} images refused, see {out / 'rejects.csv'}" if made.rejects else ""
    show(
        f"{out}: {len(made.subjects)} subjects of {made.galaxies} galaxies{refused}",
        f"order: {made.how}",
        *made.notes,
    )
    typer.echo(f"Next: panoptes subject-set upload-subjects --file-column 2 SET {out / 'manifest.csv'}")
