"""The fraction of a catalogue's galaxies, with the calibration galaxies that its network has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hubblefork.api.judging import confusions_beside
from hubblefork.data.folders import RunFolder, check_viewing, evaluate_command, named_run
from hubblefork.data.judged import judged_in_catalogue, views_of, weights_of
from hubblefork.errors import CatalogueError, HubbleforkError
from hubblefork.stats import prevalence
from hubblefork.stats.estimators import MERGER, Unavailable
from hubblefork.stats.prevalence import MERGERS, Fraction, Judged, sweep
from hubblefork.stats.query import Criterion, at_least, columns_to_read, parse_query
from hubblefork.stats.rates import Rate
from hubblefork.tables.catalogue import (
    Catalogue,
    catalogue_of,
    is_catalogue,
    metadata_of,
    naming,
    open_catalogue,
    read_catalogue,
    read_head,
)
from hubblefork.tables.columns import without
from hubblefork.tables.layouts import found_of
from hubblefork.tables.published import in_our_columns, tree_of
from hubblefork.tables.shards import is_catalogue_folder
from hubblefork.zoo import DecisionTree, load_tree

TRUST = (
    "the catalogue does not say which weights predicted it (an earlier hubblefork, or CSV): whether they are "
    "those of the calibration galaxies is not checked"
)


def fraction(
    catalogue: Path | str | Any,
    query: str | tuple[str, float] = MERGERS,
    *,
    threshold: float | None = None,
    calibrate_on: Path | str | None = None,
    labels: Path | str | None = None,
    missing: Collection[float] = (),
    tree: str = "",
    layout: str = "",
    clean: bool = False,
    weights: str = "",
    bins: str = "",
    column: str = "",
    level: float = 0.95,
) -> Fraction:
    """Estimate which fraction of a catalogue's galaxies meets a query, corrected for what a network misses.

    `catalogue` is a file, a folder of shards (read in pieces, never held), or a table of astropy, pandas or
    pyarrow; it has joint fractions, or is in the layout of a published catalogue. `query` is
    "merger >= 0.3", an answer with its threshold, or any expression of answers
    ("spiral > 0.5 & barred > 0.3"); `threshold` is another one for predictions, where votes keep the
    query's. Corrections rest on labelled galaxies outside the training set: those of the catalogue's run, of
    `calibrate_on` (a run, or a catalogue with `labels`), or the numbers beside the weights. `bins`
    ("redshift:0.02,0.05,0.1") repeats the estimate in bins of that column, or of `column`. Returned are
    `.value`, `.low`, `.high` (from 0 to 1, at the confidence `level`), `.table` (every estimator), `.bins`
    and `.rate(t_obs)`. The numbers `missing` (-99) stand for missing values in all tables. `tree` is the
    catalogue's where it does not say it, as a table of pandas does not; `layout` ("counts:dr8") says
    which of several layouts of the labels is read, or of the catalogue without labels. Raises
    CatalogueError, UnknownAnswer, RunError. Source: Rogan & Gladen 1978; Lang & Reiczigel 2014 for the
    interval.

    >>> 0 <= hf.fraction("predictions.parquet", "merger >= 0.3").value <= 1
    True
    """
    place = Path(catalogue) if isinstance(catalogue, str | PathLike) else None
    table = without(catalogue_of(catalogue), missing) if place is None else read_head(place)
    of = load_tree(tree) if tree else tree_of(table)
    if of.number:
        raise CatalogueError(
            f"{of.columns[0]} is a number: what is counted and corrected here are fractions from 0 to 1"
        )
    truth = parse_query(query, of) if isinstance(query, str) else at_least(of, *query)
    if threshold is not None and truth.answer is None:
        raise CatalogueError("a threshold for predictions goes with one answer, not with an expression")
    counted = truth if threshold is None else at_least(of, str(truth.answer), threshold)
    others = [name for name in (weights, column or bins.partition(":")[0]) if name]
    needed: dict[str, Any] = {"truth": truth, "clean": clean, "others": others}
    wanted = layout if labels is None else ""
    with naming(place):
        galaxies, read = _opened(table, place, of, wanted, missing, counted, needed)
    judged = calibration_galaxies(table, of, calibrate_on, labels, missing, layout)
    with naming(place):
        result = prevalence.fraction(
            galaxies,
            counted,
            judged,
            truth=truth,
            tree=of,
            clean=clean,
            weights=weights,
            bins=bins,
            column=column,
            level=level,
        )
    notes = (*read, *result.notes)
    trusted = isinstance(judged, Unavailable) or weights_of(table)
    return replace(result, notes=notes if trusted else (*notes, TRUST))


def _opened(
    table: pa.Table,
    place: Path | None,
    tree: DecisionTree,
    layout: str,
    missing: Collection[float],
    counted: Criterion,
    needed: dict[str, Any],
) -> tuple[Catalogue, list[str]]:
    """Return the columns of a catalogue that are needed, joint fractions whatever it has; and what was read.

    `table` is the catalogue, or its head where it lies at a `place`.
    """
    answers = {*counted.answers, *needed["truth"].answers}
    part = tree if needed["clean"] else tree.part(answers)
    found = None if place and is_catalogue_folder(place) else found_of(table.column_names, part, layout)
    head = table.slice(length=0)
    if found:
        head, _ = in_our_columns(head, part, found=found)
    columns = columns_to_read(head, tree, counted, **needed)
    if found is None:
        return (table if place is None else open_catalogue(place, columns, missing=missing)), []
    if place is not None:
        columns |= found.columns(table.column_names)
        table = read_catalogue(place, columns, missing=missing)
    galaxies, notes = in_our_columns(table, part, found=found)
    return galaxies, [*(f"read as {note}" for note in notes[:1]), *notes[1:]]


def draw(fraction: Fraction, folder: Path, *, rate: Rate | None = None) -> None:
    """Write figures (PDF, PNG): estimators, thresholds, bins, and mergers beside published fractions."""
    from hubblefork.pages import fractions as figures
    from hubblefork.pages.style import save

    truth, rng = fraction.truth, np.random.default_rng(0)
    save(figures.estimators_side_by_side({"this catalogue": fraction})[0], folder / "estimators")
    if truth.answer is not None:
        sample = fraction.catalogue, fraction.tree, truth.answer, fraction.judged
        swept = sweep(*sample, rng=rng, level=fraction.level)
        save(figures.estimates_against_threshold(swept, marked=truth.threshold)[0], folder / "thresholds")
    if truth.answer == MERGER:
        save(figures.beside_published(fraction, rate=rate)[0], folder / "published")
    if fraction.bins:
        save(figures.fraction_in_bins(fraction.bins, name=fraction.binned_by)[0], folder / "bins")


def calibration_galaxies(
    table: pa.Table,
    tree: DecisionTree,
    calibrate_on: Path | str | None,
    labels: Path | str | None,
    missing: Collection[float] = (),
    layout: str = "",
) -> Judged:
    """Return a catalogue's calibration galaxies, or the numbers beside the weights, or why there are none.

    Those that are named must be there; those of the catalogue's own run may be missing. Raises
    CatalogueError, RunError.
    """
    place = None if labels is None else Path(labels)
    if calibrate_on is not None and is_catalogue(Path(calibrate_on)):
        if place is None:
            raise CatalogueError("a catalogue to calibrate on needs the labels of its galaxies (--labels)")
        return judged_in_catalogue(
            Path(calibrate_on), tree, place, missing=missing, layout=layout, like=table
        )
    views, scale = views_of(table), metadata_of(table).get("scale")
    if scale and calibrate_on is None:
        return _unavailable(f"those of the run have the scale of training. {scale}", views)
    try:
        check_viewing(table, "the catalogue", "predict anew")
    except HubbleforkError as error:
        if calibrate_on is not None:
            raise
        return _unavailable(str(error), views)
    try:
        return RunFolder(calibrate_on or named_run(table)).judged(
            tree=tree,
            labels=place,
            missing=missing,
            layout=layout,
            views=views,
            weights=weights_of(table),
        )
    except HubbleforkError as error:
        if calibrate_on is not None or place is not None:
            raise
        return _beside_weights(table, views, str(error))


def _beside_weights(table: pa.Table, views: int, reason: str) -> Judged:
    try:
        return confusions_beside(Path(named_run(table)), views=views, predicted=weights_of(table))
    except HubbleforkError as error:
        more = "" if str(error) == reason else f"; no numbers of them: {error}"
        return _unavailable(f"{reason}{more}", views)


def _unavailable(reason: str, views: int) -> Unavailable:
    remedy = f"{evaluate_command('RUN', views)}, then --calibrate-on RUN (or CATALOGUE with --labels TABLE)"
    return Unavailable(f"no calibration galaxies: {reason}", remedy)
