import numpy as np
import pytest

from hubblefork.pages.comparisons import (
    best_so_far,
    broken_constraints,
    error_against_cost,
    errors_over_galaxies,
    errors_over_time,
    importances,
    learning_curves,
    networks_compared,
    training_of_networks,
    trial_history,
)
from hubblefork.stats.curves import LearningCurve, PowerLaw


@pytest.fixture
def curves():
    rng = np.random.default_rng(5)
    names = ("train_rmse", "validation_rmse", "train_agreement", "validation_agreement")
    return {
        network: [
            {"epoch": k, **dict(zip(names, row, strict=True))}
            for k, row in enumerate(rng.random((epochs, 4)))
        ]
        for network, epochs in (("lab-cnn", 6), ("lab-resnet50", 4))
    }


def test_a_loss_is_the_square_of_the_rmse(curves):
    figure, numbers = training_of_networks(curves, best={"lab-cnn": 5, "lab-resnet50": 2})
    for row, (name, rows) in enumerate(curves.items()):
        loss, agreement = figure.axes[2 * row : 2 * row + 2]
        assert loss.get_title() == name
        lines = {line.get_label(): line.get_ydata() for line in loss.lines}
        assert lines["training"] == pytest.approx([one["train_rmse"] ** 2 for one in rows])
        assert lines["validation"] == pytest.approx([one["validation_rmse"] ** 2 for one in rows])
        assert agreement.lines[1].get_ydata() == pytest.approx([one["validation_agreement"] for one in rows])
        assert list(loss.lines[-1].get_xdata()) == [numbers[name]["best"]] * 2


@pytest.mark.parametrize("measure", ["loss", "agreement"])
def test_networks_share_a_panel(curves, measure):
    figure, numbers = networks_compared(curves, measure=measure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines) == list(curves)
    for name, line in lines.items():
        assert line.get_ydata() == pytest.approx(numbers[name][f"validation_{measure}"], rel=1e-5)
    styles = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines.values()]
    assert all(len(set(kinds)) == len(lines) for kinds in zip(*styles, strict=True))


def test_bars_are_the_violations_and_no_number_covers_another(tree):
    heads = {name: np.random.default_rng(6).random(len(tree.questions)) * 0.2 for name in ("sigmoid", "lab")}
    heads["tree"] = np.full(len(tree.questions), 1e-9)
    figure, numbers = broken_constraints(tree, heads)
    panel = figure.axes[0]
    widths = [[bar.get_width() for bar in bars] for bars in panel.containers]
    assert widths == [pytest.approx(values) for values in heads.values()]
    assert numbers["lab"]["bar"] == pytest.approx(heads["lab"][2], rel=1e-5)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in panel.texts]
    assert not any(box.overlaps(other) for k, box in enumerate(boxes) for other in boxes[:k])
    assert [text.get_text() for text in panel.texts][-1] == " 0"


RATES = (1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4)


@pytest.fixture
def rows():
    names = ("train_rmse", "validation_rmse", "train_agreement", "validation_agreement")
    values = np.random.default_rng(3).random((5, 4))
    return [
        {"epoch": epoch, "learning_rate": rate, **dict(zip(names, row, strict=True))}
        for epoch, (rate, row) in enumerate(zip(RATES, values, strict=True))
    ]


def test_lines_are_the_rows(rows):
    figure, numbers = learning_curves(rows, best_epoch=3, mean_vote=0.7)
    for panel, measure in zip(figure.axes, ("rmse", "agreement"), strict=True):
        lines = {line.get_label(): line for line in panel.lines}
        for part, text in (("train", "training"), ("validation", "validation")):
            expected = [row[f"{part}_{measure}"] for row in rows]
            assert lines[text].get_ydata() == pytest.approx(expected)
            assert numbers[f"{part}_{measure}"] == pytest.approx(expected, rel=1e-5)
        assert list(lines["epoch kept"].get_xdata()) == [3, 3]


def test_drops_stand_before_the_epoch_with_the_new_rate(rows):
    figure, numbers = learning_curves(rows)
    assert numbers["learning_rate_drops"] == [
        {"epoch": 2, "from": 1e-3, "to": 5e-4},
        {"epoch": 4, "from": 5e-4, "to": 2.5e-4},
    ]
    upright = [line.get_xdata() for line in figure.axes[0].lines if line.get_label().startswith("_")]
    assert [tuple(x) for x in upright] == [(1.5, 1.5), (3.5, 3.5)]
    assert [text.get_text() for text in figure.axes[1].texts] == ["0.0005", "0.00025"]


def test_the_baseline_is_drawn_where_it_is_known(rows):
    with_it, without = (learning_curves(rows, mean_vote=value)[0].axes[0] for value in (0.25, None))
    assert [0.25, 0.25] in [list(line.get_ydata()) for line in with_it.lines]
    assert len(with_it.lines) == len(without.lines) + 1


def test_a_single_epoch_can_be_drawn(rows):
    _, numbers = learning_curves(rows[:1], best_epoch=0)
    assert numbers["learning_rate_drops"] == []


def test_a_rate_that_changes_with_every_epoch_is_not_marked(rows):
    falling = [{**row, "learning_rate": 1e-3 / (1 + k)} for k, row in enumerate(rows)]
    figure, numbers = learning_curves(falling)
    assert len(numbers["learning_rate_drops"]) == 4
    assert not numbers["drops_are_marked"]
    assert not figure.axes[1].texts


SIZES = np.array([1255, 2511, 5022, 10_044])


def curve(floor):
    law = PowerLaw(floor, 0.02, 0.4, 10_044)
    laws = tuple(PowerLaw(floor + shift, 0.02, 0.4, 10_044) for shift in np.linspace(-0.002, 0.002, 41))
    sd = np.array([0.002, 0.001, np.nan, 0.001])
    return LearningCurve(SIZES, law.at(SIZES), sd, np.array([3, 3, 1, 3]), law, law, laws)


def test_points_laws_and_where_they_lead():
    found = {"lab-cnn": curve(0.09), "fork": curve(0.07)}
    figure, numbers = errors_over_galaxies(found, at=55_420)
    panel = figure.axes[0]
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    for name, one in found.items():
        assert numbers[name]["extrapolated"] == pytest.approx(one.law.at(55_420), rel=1e-5)
        assert numbers[name]["interval_95"] == pytest.approx(
            [one.law.at(55_420) - 0.0019, one.law.at(55_420) + 0.0019], abs=1e-5
        )
    dotted = [line for line in panel.lines if line.get_linestyle() == ":"]
    solid = [line for line in panel.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2]
    assert {line.get_xdata()[0] for line in dotted} == {10_044}
    assert {round(line.get_xdata()[-1]) for line in solid} == {10_044}
    hollow = [line for line in panel.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == [55_420] * 2
    assert "extrapolated" in [text.get_text() for text in panel.texts]


def test_no_label_covers_another():
    figure, _ = errors_over_galaxies({"lab-cnn": curve(0.09)}, at=55_420)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert not any(box.overlaps(other) for k, box in enumerate(boxes) for other in boxes[:k])


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
    figure, numbers = errors_over_time(curves)
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
