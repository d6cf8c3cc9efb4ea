"""`hubblefork mergers`: the fraction of a catalogue, and the rate behind it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from hubblefork.errors import HubbleforkError
    from hubblefork.stats.estimators import Unavailable
    from hubblefork.stats.prevalence import Fraction, Judged
    from hubblefork.stats.rates import Rate
    from hubblefork.zoo import DecisionTree

SEED = 0


def mergers(
    catalogue: Annotated[
        Path, typer.Argument(help="A catalogue of predictions, or of volunteers' fractions.")
    ],
    answer: Annotated[str, typer.Option(help="The answer that is counted.")] = "merger",
    threshold: Annotated[
        float, typer.Option(help="A galaxy with at least this joint fraction counts, and is a true one.")
    ] = 0.3,
    predicted_threshold: Annotated[
        float | None, typer.Option(help="Count by prediction from here on; what is true stays as it is.")
    ] = None,
    where: Annotated[
        str, typer.Option(help='Count by an expression instead: "spiral > 0.5 & barred > 0.3".')
    ] = "",
    calibrate_on: Annotated[
        Path | None,
        typer.Option(help="Run, or catalogue of predictions, with labelled galaxies off training."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels of the calibration galaxies; else those of the run's data.")
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Only galaxies asked often enough (Willett et al. 2013, table 3).")
    ] = False,
    weights: Annotated[str, typer.Option(help="Column of weights, one for each galaxy.")] = "",
    bins: Annotated[
        str, typer.Option(help="Also in bins: COLUMN or COLUMN:edges, as redshift:0.02,0.05,0.1.")
    ] = "",
    column: Annotated[
        str, typer.Option(help="The column with the values of --bins, if named otherwise.")
    ] = "",
    time: Annotated[
        str, typer.Option(help='⟨T_obs⟩ for a rate: "0.3", "0.2-0.4" (Gyr), "normal:0.3,0.1", "lotz-gm20".')
    ] = "",
    density: Annotated[
        str, typer.Option(help='Number density of the galaxies for a rate by volume: "1e-2 Mpc-3".')
    ] = "",
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for figures (PDF, PNG): estimators, thresholds, bins, others.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The merger fraction, or that of any answer, by several estimators with intervals; and its rate.

    Corrections are measured on labelled galaxies that the network did not train on: those of the run
    that the catalogue names, unless --calibrate-on says otherwise.

    Example: hubblefork mergers predictions.parquet --threshold 0.3 --time 0.2-0.4
    """
    import numpy as np

    from hubblefork.data.catalogue import read_catalogue, read_head
    from hubblefork.data.folders import tree_of
    from hubblefork.stats.prevalence import columns_to_read, fraction
    from hubblefork.stats.query import at_least, parse_query

    _check_together(where, predicted_threshold, time, density)
    head, rng = read_head(catalogue), np.random.default_rng(SEED)
    tree = tree_of(head)
    truth = parse_query(where, tree) if where else at_least(tree, answer, threshold)
    query = truth if predicted_threshold is None else at_least(tree, answer, predicted_threshold)
    named = [name for name in (weights, column or bins.partition(":")[0]) if name]
    table = read_catalogue(
        catalogue, columns_to_read(head, tree, query, truth=truth, clean=clean, others=named)
    )
    judged = _held_out(table, tree, calibrate_on, labels)
    found = fraction(
        table, query, judged, truth=truth, tree=tree, clean=clean, weights=weights, bins=bins, column=column,
        level=level, rng=rng,
    )  # fmt: skip
    rates = found.rates(time, density) if time else {}
    if json:
        _print_json(found, rates)
    else:
        _show(catalogue, table, tree, found, rates, time, bins)
    if figures:
        _draw(figures, table, tree, judged, found, bins, rates, rng)


def _check_together(where: str, predicted_threshold: float | None, time: str, density: str) -> None:
    if where and predicted_threshold is not None:
        raise typer.BadParameter("--predicted-threshold goes with --answer, not with --where")
    if density and not time:
        raise typer.BadParameter("--density makes a rate by volume, which needs --time as well")


def _held_out(table: pa.Table, tree: DecisionTree, calibrate_on: Path | None, labels: Path | None) -> Judged:
    """Return the calibration galaxies: those asked for must be there, the run's own may be missing."""
    from hubblefork.data.folders import RunFolder, check_viewing, judged_in_catalogue, named_run, views_of
    from hubblefork.errors import HubbleforkError

    if calibrate_on is not None and calibrate_on.is_file():
        if labels is None:
            raise typer.BadParameter("a catalogue to calibrate on needs --labels, the votes of its galaxies")
        return judged_in_catalogue(calibrate_on, tree, labels)
    views = views_of(table)
    try:
        check_viewing(table, "the catalogue", "predict anew")
    except HubbleforkError as error:
        if calibrate_on is not None:
            raise
        return _nothing_known(error, views)
    try:
        return RunFolder(calibrate_on or named_run(table)).judged(tree=tree, labels=labels, views=views)
    except HubbleforkError as error:
        if calibrate_on is not None or labels is not None:
            raise
        return _numbers_known(table, views, error)


def _numbers_known(table: pa.Table, views: int, lost: HubbleforkError) -> Judged:
    """Return the numbers beside the weights that predicted; `lost` is why their galaxies are not at hand."""
    from hubblefork.api.beside import confusions_beside
    from hubblefork.data.folders import named_run
    from hubblefork.errors import HubbleforkError

    try:
        return confusions_beside(named_run(table), views=views)
    except HubbleforkError as error:
        return _nothing_known(
            lost, views, "" if str(error) == str(lost) else f"; no numbers of them: {error}"
        )


def _nothing_known(lost: HubbleforkError, views: int, more: str = "") -> Unavailable:
    from hubblefork.data.folders import evaluate_command
    from hubblefork.stats.estimators import Unavailable

    remedy = f"{evaluate_command('RUN', views)}, then --calibrate-on RUN (or CATALOGUE with --labels TABLE)"
    return Unavailable(f"no calibration galaxies: {lost}{more}", remedy)


def _print_json(found: Fraction, rates: dict[str, Rate]) -> None:
    import json

    told = found.as_json()
    if rates:
        told["rates"] = {
            name: {
                "value": rate.value.value,
                "interval": [rate.low.value, rate.high.value],
                "level": rate.level,
                "unit": str(rate.value.unit),
            }
            for name, rate in rates.items()
        }
    typer.echo(json.dumps(told, indent=2, allow_nan=False))


def _show(
    catalogue: Path,
    table: pa.Table,
    tree: DecisionTree,
    found: Fraction,
    rates: dict[str, Rate],
    time: str,
    bins: str,
) -> None:
    from hubblefork.cli.mergers_text import bin_table, estimator_table, origin_lines, rate_lines, warnings
    from hubblefork.cli.tables import show

    show(estimator_table(catalogue, found), *origin_lines(found))
    if found.bins:
        show(bin_table(found.bins, bins))
    show(*rate_lines(rates, time), *warnings(table, found, tree))


def _draw(
    folder: Path,
    table: pa.Table,
    tree: DecisionTree,
    judged: Judged,
    found: Fraction,
    bins: str,
    rates: dict[str, Rate],
    rng: np.random.Generator,
) -> None:
    from hubblefork.report.figures import fractions as draw
    from hubblefork.report.figures.style import save
    from hubblefork.stats.prevalence import sweep

    save(draw.estimators_side_by_side({"this catalogue": found})[0], folder / "estimators")
    true = found.truth
    if true.answer is not None:
        swept = sweep(table, tree, true.answer, judged, rng=rng, level=found.level)
        save(draw.estimates_against_threshold(swept, marked=true.threshold)[0], folder / "thresholds")
    if true.answer == "merger":
        save(draw.beside_published(found, rate=rates.get("per_volume"))[0], folder / "published")
    if found.bins:
        save(draw.fraction_in_bins(found.bins, name=bins.partition(":")[0])[0], folder / "bins")
    typer.echo(f"figures in {folder}", err=True)
