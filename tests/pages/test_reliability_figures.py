import numpy as np
import pytest

from hubblefork.pages.answers import coverage_per_answer, reliability
from hubblefork.stats import metrics
from hubblefork.stats.conformal import fit_intervals
from hubblefork.stats.evaluation import Judge
from hubblefork.stats.metrics import reliability_of


def test_reliability_draws_the_bins_of_every_answer(tree, votes, predicted):
    figure, numbers = reliability(tree, predicted, votes)
    assert len(figure.axes) == len(tree.columns)
    column = tree.column("merger")
    expected, found = reliability_of(predicted[:, column], votes[:, column]), numbers["answers"]["merger"]
    assert found["galaxies"] == expected.galaxies.tolist()
    for key in ("predicted", "volunteers", "standard_error"):
        np.testing.assert_allclose(found[key], getattr(expected, key), rtol=1e-5)
    assert found["error"] == pytest.approx(expected.error, rel=1e-5)
    line = figure.axes[column].lines[1]
    np.testing.assert_allclose(line.get_ydata(), expected.volunteers)
    assert f"{max(found['galaxies'])} a bin" in figure.axes[column].texts[0].get_text()


def test_reliability_of_an_answer_nobody_has_says_so(tree, votes, predicted):
    silent = votes.copy()
    silent[:, tree.column("merger")] = np.nan
    figure, numbers = reliability(tree, predicted, silent)
    assert numbers["answers"]["merger"]["galaxies"] == []
    assert figure.axes[tree.column("merger")].texts[0].get_text() == "no labels"


def test_coverage_has_a_mark_an_answer_hollow_where_intervals_are_single(tree, votes, predicted):
    asked = votes.copy()
    asked[:, tree.column("bar" if "bar" in tree.columns else "barred")] = 0.0
    asked[:, tree.column("smooth")] = np.nan
    asked[:30, tree.column("smooth")] = 0.3
    intervals = fit_intervals(tree.name, tree.columns, predicted, asked)
    draws = metrics.draw(len(votes), rng=np.random.default_rng(0), resamples=20)
    found = Judge(tree, asked, draws).intervals(predicted, intervals)["coverages"][:2]
    figure, numbers = coverage_per_answer(tree, found, tolerance=0.02)
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    places = {row: x for mark in marks for row, x in zip(mark.get_ydata(), mark.get_xdata(), strict=True)}
    assert len(places) == len(tree.columns)
    hollow = [mark.get_ydata() for mark in marks if mark.get_markerfacecolor() == "white"]
    assert len(hollow[0]) == sum(one["single"] > 0.5 for one in found[0]["answers"].values()) > 0
    drawn = [places[row] for row in sorted(places)]
    np.testing.assert_allclose(drawn, [one["found"]["value"] for one in found[0]["answers"].values()])
    assert numbers["coverages"][1]["stated"] == 0.9
