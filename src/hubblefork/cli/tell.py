"""The commands that show: report, study, demo, info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubblefork.cli.study import study
from hubblefork.cli.terminal import TELL, DataNow, Run, bar, show

if TYPE_CHECKING:
    from hubblefork.errors import ExtraMissing
    from hubblefork.network.model import Parameters
    from hubblefork.network.recipe import Recipe

app = typer.Typer()
info = typer.Typer(help="Show versions and hardware, decision trees, recipes.")
app.add_typer(study, name="study", rich_help_panel=TELL)
app.add_typer(info, name="info", rich_help_panel=TELL)


@app.command(rich_help_panel=TELL)
def report(
    run: Run,
    predictions: Annotated[Path | None, typer.Option(help="A catalogue of predictions to add.")] = None,
    data: DataNow = None,
) -> None:
    """Write one HTML page about a run: data, training, errors, prototypes, mergers.

    Example: hubblefork report runs/lab-cnn --predictions predictions.parquet
    """
    from hubblefork.api.skies import report as write_report

    typer.echo(write_report(run, predictions=predictions, data=data, progress=bar))


@app.command(rich_help_panel=TELL)
def demo(
    out: Annotated[Path, typer.Option(help="The folder for everything.")] = Path("demo"),
    galaxies: Annotated[int, typer.Option(help="Labelled galaxies of the mock sky.")] = 1600,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sky and run.")] = 0,
) -> None:
    """Run everything on a mock sky, in minutes: mock, ingest, train, evaluate, predict, mergers, report."""
    from hubblefork.api.skies import run_demo

    typer.echo(run_demo(out, galaxies=galaxies, seed=seed, progress=bar))


@info.callback(invoke_without_command=True)
def versions(context: typer.Context) -> None:
    """Show versions, device, precision and threads.

    Example: hubblefork info
    """
    if context.invoked_subcommand is None:
        from hubblefork.api.predictions import versions as list_versions

        for key, value in list_versions().items():
            typer.echo(f"{key:<12} {value}")


@info.command()
def tree(
    name: Annotated[str | None, typer.Argument(help="A decision tree's name, or a .toml file.")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw it into a file: .svg, .pdf or .png.")] = None,
) -> None:
    """Draw a decision tree; without a name, list those that are there.

    Example: hubblefork info tree galaxy_zoo_2 --out tree.svg
    """
    from hubblefork.cli.tables import drawn_tree, trees_table
    from hubblefork.zoo import load_tree, tree_names

    if name is None:
        if out is not None:
            raise typer.BadParameter("--out needs the name of a tree")
        show(trees_table([load_tree(name) for name in tree_names()]))
        return
    chosen = load_tree(name)
    if out is not None:
        from hubblefork.pages.style import save_as
        from hubblefork.pages.trees import decision_tree

        save_as(decision_tree(chosen)[0], out)
        typer.echo(out)
        return
    show(drawn_tree(chosen))


@info.command()
def surveys() -> None:
    """List the surveys whose FITS cutouts are read: bands, pixels, seeing, depth, stretch, tree."""
    from hubblefork.cli.tables import surveys_table
    from hubblefork.data.surveys import load_survey, survey_names

    show(surveys_table([load_survey(name) for name in survey_names()]))


@info.command()
def recipes() -> None:
    """List the recipes with their numbers of parameters."""
    from hubblefork.cli.tables import recipe_tables
    from hubblefork.network.recipe import load_recipe, recipe_names

    show(*recipe_tables([(recipe, _parameters(recipe)) for recipe in map(load_recipe, recipe_names())]))


def _parameters(recipe: Recipe) -> Parameters | ExtraMissing:
    from hubblefork.errors import ExtraMissing
    from hubblefork.network.model import count_by_recipe
    from hubblefork.zoo import load_tree

    try:
        return count_by_recipe(recipe, load_tree())
    except ExtraMissing as missing:
        return missing
