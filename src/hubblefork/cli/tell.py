"""The commands that show: report, study, demo, info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hubblefork.cli.terminal import TELL, DataNow, Device, OnlyReport, Record, Run, Weights, bar, show, typed

if TYPE_CHECKING:
    from hubblefork.errors import ExtraMissing
    from hubblefork.network.model import Parameters
    from hubblefork.network.recipe import Recipe

app = typer.Typer()
study = typer.Typer(help="Run a whole study and write its page.", no_args_is_help=True)
info = typer.Typer(help="Show versions and hardware, decision trees, recipes.")
app.add_typer(study, name="study", rich_help_panel=TELL)
app.add_typer(info, name="info", rich_help_panel=TELL)

Out = Annotated[Path, typer.Option(help="The folder of the study. The same command resumes it.")]
StudyData = Annotated[Path | None, typer.Option("--data", help="A data folder. --quick needs none.")]
Quick = Annotated[bool, typer.Option("--quick", help="Short trainings. Without --data they use a mock sky.")]


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
    from hubblefork.images.surveys import load_survey, survey_names

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


@study.command()
def lab(
    out: Out,
    data: StudyData = None,
    quick: Quick = False,
    test_images: Annotated[
        Path | None, typer.Option(help="Archive or folder of unlabelled images. Default: those of the data.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="The largest number of epochs of every training.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="[RECIPE:]key=value. The RECIPE `heads` is the comparison of heads."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each head, with the seeds 0, 1, ….")] = 2,
    weights: Weights = None,
    galaxies: Annotated[int, typer.Option(help="Labelled galaxies of the mock sky of --quick.")] = 480,
    only_report: OnlyReport = False,
    record: Record = None,
    device: Device = "",
) -> None:
    """Repeat the lab report: three networks, eighteen figures, six tables, and its open questions.

    Example: hubblefork study lab --data data/ --test-images images_test_rev1.zip --out studies/lab/
    """
    from hubblefork.studies.lab import run_lab, write_record

    page = run_lab(
        data,
        out,
        settings=[*([] if epochs is None else [f"epochs={epochs}"]), *(settings or [])],
        seeds=seeds,
        weights=weights,
        device=device,
        test_images=test_images,
        quick=quick,
        only_report=only_report,
        galaxies=galaxies,
        command=typed(),
        progress=bar,
    )
    if record is not None:
        write_record(page.parent, record)
    typer.echo(page)


@study.command()
def compare(
    out: Out,
    data: StudyData = None,
    recipes: Annotated[
        list[str] | None,
        typer.Option("--recipe", help="A recipe to compare. May be repeated. Default: five recipes."),
    ] = None,
    seeds: Annotated[
        list[str] | None, typer.Option(help="[RECIPE:]N: trainings of each recipe, or of RECIPE. Default: 3.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="[RECIPE:]key=value.")] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of finished runs. The study uses those that equal its trainings."),
    ] = None,
    ensembles: Annotated[
        list[str] | None, typer.Option("--ensemble", help="A recipe. The study also averages its seeds.")
    ] = None,
    views: Annotated[
        int, typer.Option(help="Views of each galaxy at prediction. The study also predicts with 1.")
    ] = 16,
    curves: Annotated[
        list[str] | None, typer.Option(help="A recipe. The study also trains it on shares of the galaxies.")
    ] = None,
    shares: Annotated[str, typer.Option(help="The shares, for --curves.")] = "1/8,1/4,1/2,1",
    quick: Quick = False,
    weights: Weights = None,
    only_report: OnlyReport = False,
    record: Record = None,
    device: Device = "",
) -> None:
    """Compare networks on the same galaxies: errors, paired tests, costs, learning curves.

    Example: hubblefork study compare --data data/ --recipe lab-cnn --recipe fork --out studies/compare/
    """
    from hubblefork.studies.compare import run_compare
    from hubblefork.studies.study import copy_record, load_study

    plan = load_study(
        "compare",
        quick=quick,
        recipes=recipes,
        seeds=seeds,
        settings=settings,
        runs=runs,
        ensembles=ensembles,
        views=views,
        curves=curves,
        shares=shares,
        weights=weights,
        device=device,
        only_report=only_report,
    )
    page = run_compare(data, out, study=plan, command=typed(), progress=bar)
    if record is not None:
        copy_record(page.parent, record)
    typer.echo(page)


@study.command()
def mergers(
    out: Out,
    run: Annotated[
        Path | None, typer.Option(help="Another run. The study also draws from its labelled galaxies.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small skies and few realisations.")] = False,
    device: Device = "",
    processes: Annotated[
        int | None, typer.Option(help="Processes that draw skies. Default: one for each core.")
    ] = None,
) -> None:
    """Test the merger fraction on mock skies: recovery, coverage of intervals, surveys that differ.

    Example: hubblefork study mergers --out studies/mergers/
    """
    from hubblefork.studies.mergers import run_mergers

    typer.echo(run_mergers(out, quick=quick, run=run, device=device, processes=processes, progress=bar))


@study.command("soft-target")
def soft_target(
    out: Out,
    data: StudyData = None,
    budget: Annotated[
        str, typer.Option(help="Time for all trainings together. Default: 2h, or 90s with --quick.")
    ] = "",
    quick: Quick = False,
    trials: Annotated[int, typer.Option(help="The largest number of trials of tuning.")] = 20,
    folds: Annotated[int, typer.Option(help="Folds of the cross validation.")] = 5,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="[NETWORK:]key=value. The NETWORK `tuning` is the trials."),
    ] = None,
    weights: Weights = None,
    only_report: OnlyReport = False,
    record: Record = None,
    device: Device = "",
) -> None:
    """Compare simple and larger networks that have the same time: VGGs, ResNet-50, adapters, tuning.

    Example: hubblefork study soft-target --data data/ --budget 2h --out studies/soft-target/
    """
    from hubblefork.io import seconds
    from hubblefork.studies.soft_target import run_soft_target
    from hubblefork.studies.study import copy_record, load_study

    plan = load_study(
        "soft_target",
        quick=quick,
        budget=seconds(budget) if budget else None,
        settings=settings,
        trials=trials,
        folds=folds,
        weights=weights,
        device=device,
        only_report=only_report,
    )
    page = run_soft_target(data, out, study=plan, command=typed(), progress=bar)
    if record is not None:
        copy_record(page.parent, record)
    typer.echo(page)


@study.command()
def labels(
    out: Out,
    data: StudyData = None,
    starts: Annotated[
        list[str] | None,
        typer.Option("--start", help="fork, encoder:NAME or nothing. May be repeated. Default: all three."),
    ] = None,
    numbers: Annotated[
        list[int] | None, typer.Option("--labels", help="A number of labels. May be repeated.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each. Default: 3.")] = None,
    degrade: Annotated[
        bool, typer.Option("--degrade", help="Make the images of the data folder those of a worse survey.")
    ] = False,
    old: Annotated[
        Path | None, typer.Option(help="A run on the old survey. Its galaxies are told from the new ones.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="[START:]key=value.")] = None,
    quick: Quick = False,
    only_report: OnlyReport = False,
    device: Device = "",
) -> None:
    """Measure how many labels a network needs in a new survey, from several starts.

    Example: hubblefork study labels --data survey/ --labels 100 --labels 300 --out studies/labels/
    """
    from hubblefork.studies.labels import load_plan, run_labels

    plan = load_plan(quick=quick, starts=starts, labels=numbers, seeds=seeds, settings=settings)
    page = run_labels(
        data,
        out,
        plan=plan,
        degrade=degrade,
        old=old,
        quick=quick,
        only_report=only_report,
        device=device,
        command=typed(),
        progress=bar,
    )
    typer.echo(page)
