"""Figures of a tuning and of what networks cost: they hold the numbers they were given."""

import numpy as np
import pytest

from hubblefork.pages.comparisons import (
    best_so_far,
    error_against_cost,
    errors_over_time,
    importances,
    trial_history,
)

TRIALS = [
    {"number": 0, "state": "complete", "value": 0.2},
    {"number": 1, "state": "fail", "value": None},
    {"number": 2, "state": "complete", "value": 0.1},
    {"number": 3, "state": "pruned", "value": 0.3},
    {"number": 4, "state": "complete", "value": 0.15},
    {"number": 5, "state": "running", "value": None},
]


def test_the_best_so_far_falls_and_counts_only_what_was_trained_to_the_end():
    assert best_so_far(TRIALS) == [(0, 0.2), (2, 0.1), (4, 0.1)]
    assert best_so_far(TRIALS, lowest=False) == [(0, 0.2), (2, 0.2), (4, 0.2)]
    assert best_so_far(TRIALS[1:2]) == []


def test_the_history_holds_every_trial_by_its_state():
    figure, numbers = trial_history(TRIALS, what="RMSE")
    assert numbers["complete"] == {"number": [0, 2, 4], "value": [0.2, 0.1, 0.15]}
    assert numbers["pruned"]["number"] == [3]
    assert numbers["fail"]["number"] == [1]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["trained to the end", "pruned, its last value", "failed", "best so far"]


def test_a_history_of_one_trial_can_be_drawn():
    assert trial_history(TRIALS[:1], what="RMSE")[1]["best_so_far"] == [[0, 0.2]]


def test_what_matters_most_is_on_top():
    figure, numbers = importances({"zoom": 0.1, "learning_rate": 0.7, "dropout": 0.2})
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["learning rate", "dropout", "zoom"]
    assert numbers["learning_rate"] == 0.7


def test_errors_over_time_are_the_rows_and_their_running_best():
    curves = {"a": {"seconds": np.array([1.0, 2, 4]), "rmse": np.array([0.3, 0.1, 0.2])}}
    figure, numbers = errors_over_time(curves, mean_vote=0.16)
    left, right = (next(line for line in panel.lines if line.get_label() == "a") for panel in figure.axes)
    assert list(left.get_ydata()) == [0.3, 0.1, 0.2]
    assert list(right.get_ydata()) == [0.3, 0.1, 0.1]
    assert numbers["a"]["rmse"] == pytest.approx([0.3, 0.1, 0.2])


def test_seven_networks_look_different_without_colour():
    points = {
        str(k): {"seconds": 10.0 * k, "parameters": 1e6 * k, "rmse": 0.1, "sd": 0.01} for k in range(1, 8)
    }
    figure, numbers = error_against_cost(points, mean_vote=0.16)
    markers = {bar.lines[0].get_marker() for bar in figure.axes[0].containers}
    assert len(markers) == 7
    assert numbers["3"]["parameters"] == 3e6
