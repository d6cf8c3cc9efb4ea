import numpy as np
import pytest

from hubblefork.pages.answers import learning_curves

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
        for part in ("train", "validation"):
            expected = [row[f"{part}_{measure}"] for row in rows]
            assert lines[part].get_ydata() == pytest.approx(expected)
            assert numbers[f"{part}_{measure}"] == pytest.approx(expected, rel=1e-5)
        assert lines["best epoch (3)"].get_xdata() == [3]
        assert lines["best epoch (3)"].get_ydata() == [rows[3][f"validation_{measure}"]]


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
