"""The commands of the Zooniverse: votes, subjects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubblefork.cli.terminal import DATA, Overwrite, Tree, bar, show

app = typer.Typer()
zooniverse = typer.Typer(
    no_args_is_help=True, help="From volunteers' classifications to votes, from predictions to subjects."
)
app.add_typer(zooniverse, name="zooniverse", rich_help_panel=DATA)


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
    import hubblefork as hf
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
    import hubblefork as hf

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
