"""The verbs of `hubblefork study`: whole studies, each one command and one page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hubblefork.cli.terminal import Device, OnlyReport, Record, Weights, bar

study = typer.Typer(help="Run a whole study and write its page.", no_args_is_help=True)


@study.command()
def lab(
    out: Annotated[Path, typer.Option(help="Where to write everything, or to go on.")],
    data: Annotated[Path | None, typer.Option(help="A data folder; not needed with --quick.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short trainings, on a mock sky unless there is --data.")
    ] = False,
    test_images: Annotated[
        Path | None, typer.Option(help="Archive or folder of unlabelled images; else those of the data.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many epochs in every training.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="[RECIPE:]key=value; RECIPE `heads` is the comparison of heads."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each head, with the seeds 0, 1, ….")] = 2,
    weights: Weights = None,
    galaxies: Annotated[int, typer.Option(help="Labelled galaxies of the mock sky of --quick.")] = 480,
    only_report: OnlyReport = False,
    record: Record = None,
    device: Device = "",
) -> None:
    """The lab report, all of it: three networks, eighteen figures, six tables, and what it leaves open.

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
        command=["hubblefork", *sys.argv[1:]],
        progress=bar,
    )
    if record is not None:
        write_record(page.parent, record)
    typer.echo(page)


@study.command()
def compare(
    out: Annotated[Path, typer.Option(help="Where to write everything, or to go on.")],
    data: Annotated[Path | None, typer.Option(help="A data folder; not needed with --quick.")] = None,
    recipes: Annotated[
        list[str] | None, typer.Option("--recipe", help="A recipe to compare; again for each. Else five.")
    ] = None,
    seeds: Annotated[
        list[str] | None, typer.Option(help="[RECIPE:]N: trainings of each recipe, or of one; 3 by itself.")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="[RECIPE:]key=value.")] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of runs: those that are the trainings wanted are taken, not trained."),
    ] = None,
    ensembles: Annotated[
        list[str] | None, typer.Option("--ensemble", help="A recipe whose seeds are averaged too.")
    ] = None,
    views: Annotated[int, typer.Option(help="Views of each galaxy at prediction, beside one.")] = 16,
    curves: Annotated[
        list[str] | None, typer.Option(help="A recipe that is trained on shares of the galaxies too.")
    ] = None,
    shares: Annotated[str, typer.Option(help="The shares, for --curves.")] = "1/8,1/4,1/2,1",
    quick: Annotated[
        bool, typer.Option("--quick", help="Short trainings, on a mock sky unless there is --data.")
    ] = False,
    weights: Weights = None,
    only_report: OnlyReport = False,
    record: Record = None,
    device: Device = "",
) -> None:
    """Networks side by side on the same galaxies: which is best, how sure that is, what more galaxies give.

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
    page = run_compare(data, out, study=plan, command=["hubblefork", *sys.argv[1:]], progress=bar)
    if record is not None:
        copy_record(page.parent, record)
    typer.echo(page)


@study.command()
def mergers(
    out: Annotated[Path, typer.Option(help="Where to write everything, or to go on.")],
    run: Annotated[
        Path | None, typer.Option(help="Another run whose labelled galaxies are to be drawn from too.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small skies and few realisations.")] = False,
    device: Device = "",
    processes: Annotated[int | None, typer.Option(help="Processes that draw skies; one a core.")] = None,
) -> None:
    """The merger fraction proved: mergers put into mock skies, counted again; and surveys that differ.

    Example: hubblefork study mergers --out studies/mergers/
    """
    from hubblefork.studies.mergers import run_mergers

    typer.echo(run_mergers(out, quick=quick, run=run, device=device, processes=processes, progress=bar))


@study.command("soft-target")
def soft_target(
    out: Annotated[Path, typer.Option(help="Where to write everything, or to go on.")],
    data: Annotated[Path | None, typer.Option(help="A data folder; not needed with --quick.")] = None,
    budget: Annotated[
        str, typer.Option(help="Time for all trainings together: 2h by itself, 90s with --quick.")
    ] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Short trainings, on a mock sky unless there is --data.")
    ] = False,
    trials: Annotated[int, typer.Option(help="At most so many trials of tuning.")] = 20,
    folds: Annotated[int, typer.Option(help="Folds of the cross validation.")] = 5,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="[NETWORK:]key=value; `tuning` is the trials.")
    ] = None,
    weights: Weights = None,
    only_report: OnlyReport = False,
    record: Record = None,
    device: Device = "",
) -> None:
    """Is simple better? VGGs, ResNet-50, adapters, a tuned network of seven blocks, in one budget.

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
    page = run_soft_target(data, out, study=plan, command=["hubblefork", *sys.argv[1:]], progress=bar)
    if record is not None:
        copy_record(page.parent, record)
    typer.echo(page)
