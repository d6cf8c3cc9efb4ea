import numpy as np
import pytest
from scipy import stats

from hubblefork.pages.answers import predicted_against_volunteers, rmse_per_answer
from hubblefork.pages.panels import histograms


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
    figure, numbers = rmse_per_answer(
        tree, rmse, baselines={"mean vote": rmse + 0.1}, low=rmse - 0.01, high=rmse + 0.01
    )
    panel = figure.axes[0]
    assert [bar.get_width() for bar in panel.patches] == pytest.approx(rmse)
    assert numbers["rmse"] == pytest.approx(rmse, rel=1e-5)
    assert numbers["baselines"]["mean vote"] == pytest.approx(rmse + 0.1, rel=1e-5)
    assert panel.get_ylim()[0] > panel.get_ylim()[1]  # the first answer on top
