import numpy as np
import pytest
from scipy import stats

from hubblefork.pages.answers import (
    correlation_matrix,
    correlation_submatrices,
    coverage_per_answer,
    histograms,
    places_of,
    predicted_against_volunteers,
    reliability,
    rmse_per_answer,
)
from hubblefork.stats import metrics
from hubblefork.stats.conformal import fit_intervals
from hubblefork.stats.evaluation import Judge
from hubblefork.stats.metrics import reliability_of
from hubblefork.stats.samples import correlations


@pytest.fixture(scope="module")
def scatter(tree, votes, predicted):
    return predicted_against_volunteers(tree, predicted, votes)


def test_scatter_states_rmse_and_r_of_the_known_pairs(tree, votes, predicted, scatter):
    figure, numbers = scatter
    for column, name in enumerate(tree.columns):
        known = ~np.isnan(votes[:, column])
        x, y, found = votes[known, column], predicted[known, column], numbers["answers"][name]
        assert found["n"] == known.sum() == sum(found["cells"]["count"])
        assert found["r"] == pytest.approx(stats.pearsonr(x, y).statistic, rel=1e-5)
        assert found["rmse"] == pytest.approx(np.linalg.norm(x - y) / np.sqrt(len(x)), rel=1e-5)
    assert numbers["answers"]["merger"]["n"] == 53
    assert len(figure.axes) == len(tree.columns) + 1


def test_scatter_cells_are_those_of_the_galaxies(tree, votes, predicted, scatter):
    _, numbers = scatter
    cells, column = numbers["answers"]["spiral"]["cells"], tree.column("spiral")
    places = (np.minimum((values[:, column] * 40).astype(int), 39).tolist() for values in (votes, predicted))
    assert set(zip(cells["x"], cells["y"], strict=True)) == set(zip(*places, strict=True))


def test_scatter_of_an_answer_nobody_has_says_so(tree, votes, predicted):
    silent = votes.copy()
    silent[:, tree.column("merger")] = np.nan
    figure, numbers = predicted_against_volunteers(tree, predicted, silent)
    assert numbers["answers"]["merger"] == {
        "n": 0,
        "rmse": None,
        "r": None,
        "cells": {"x": [], "y": [], "count": []},
    }
    assert "no labels" in [text.get_text() for text in figure.axes[tree.column("merger")].texts]


def test_histograms_are_densities_of_the_known_fractions(tree, votes, predicted):
    _, numbers = histograms(tree, {"votes": votes, "predicted": predicted})
    edges = np.array(numbers["edges"])
    for name, values in {"votes": votes, "predicted": predicted}.items():
        for column, answer in enumerate(tree.columns):
            known = values[~np.isnan(values[:, column]), column]
            found = numbers["samples"][name][answer]
            assert found["n"] == len(known)
            assert found["density"] == pytest.approx(np.histogram(known, edges, density=True)[0], rel=1e-5)


def test_bars_are_as_long_as_the_errors(tree):
    rmse = np.linspace(0.3, 0.02, len(tree.columns))
    estimates = [{"value": value, "interval_95": [value - 0.01, value + 0.01]} for value in rmse.tolist()]
    figure, numbers = rmse_per_answer(tree, [*estimates[:-1], None], baselines={"mean vote": rmse + 0.1})
    rmse[-1] = np.nan
    panel = figure.axes[0]
    assert [bar.get_width() for bar in panel.patches] == pytest.approx(rmse, nan_ok=True)
    assert numbers["rmse"][:-1] == pytest.approx(rmse[:-1], rel=1e-5)
    assert numbers["low"][:-1] == pytest.approx(rmse[:-1] - 0.01, rel=1e-5)
    assert (numbers["rmse"][-1], numbers["high"][-1]) == (None, None)
    assert numbers["baselines"]["mean vote"][:-1] == pytest.approx(rmse[:-1] + 0.1, rel=1e-5)
    assert panel.get_ylim()[0] > panel.get_ylim()[1]  # the first answer on top


@pytest.fixture
def rho(votes):
    found = correlations(votes).rho
    found[3, 5] = np.nan
    return found


def test_the_matrix_is_drawn_with_a_dash_on_every_negative_element(tree, rho):
    figure, numbers = correlation_matrix(tree, rho)
    panel = figure.axes[0]
    assert np.ma.filled(panel.images[0].get_array(), np.nan) == pytest.approx(rho, nan_ok=True)
    dashes = {tuple(map(int, place)) for marks in panel.collections for place in marks.get_offsets()}
    assert dashes == {(j, i) for i, j in zip(*np.nonzero(rho < 0), strict=True)}
    assert numbers["rho"][3][5] is None
    assert numbers["answers"] == list(tree.columns)


def test_every_question_has_its_submatrix_on_the_page_and_apart_from_the_others(tree, rho):
    figure, numbers = correlation_submatrices(tree, rho)
    figure.draw_without_rendering()
    page = figure.axes[0]
    shown = zip(page.images, tree.questions, tree.slices, strict=True)
    for image, question, answers in shown:
        matrix = np.ma.filled(image.get_array(), np.nan)
        assert matrix == pytest.approx(rho[answers, answers], nan_ok=True)
        assert numbers[question.name]["answers"] == [answer.name for answer in question.answers]
        left, right, bottom, top = image.get_extent()
        texts = [
            text.get_text().replace("−", "-")
            for text in page.texts
            if left < text.get_position()[0] < right and top < text.get_position()[1] < bottom
        ]
        assert texts == [
            str(round(100 * value)) for value in rho[answers, answers].ravel() if np.isfinite(value)
        ]
    boxes = [text.get_window_extent() for text in page.texts]
    boxes += [image.get_window_extent() for image in page.images]
    for number, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        if number < len(page.texts):
            assert not any(box.overlaps(other) for other in boxes[:number])


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


def test_places_hold_every_answer_once(tree):
    places = zip(places_of(tree), tree.questions, strict=True)
    cells = {(row, column + k) for (row, column), question in places for k in range(len(question.answers))}
    assert len(cells) == len(tree.columns)
    assert max(column for _, column in cells) < 7
