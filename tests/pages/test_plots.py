import numpy as np
import pytest

from hubblefork.pages.plots import Panel, Series, bounded, curves, intervals, short_number, sides
from hubblefork.pages.style import png
from hubblefork.stats.estimators import Unavailable


def overlapping(texts):
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return [
        number for number, box in enumerate(boxes) if any(box.overlaps(other) for other in boxes[:number])
    ]


def test_a_legend_of_long_names_stays_on_the_figure():
    names = [f"recalibrated, quantile mapping {k}" for k in range(5)]
    figure = curves([Panel([Series(name, [0, 1], [0, k]) for k, name in enumerate(names)])])
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert len(figure.legends[0].get_texts()) == 5


@pytest.mark.parametrize(
    ("last", "labels"), [(30.0, {"1", "2", "5", "10", "20"}), (1e6, {"1", "100", "1 M"})]
)
def test_ticks_of_a_logarithmic_axis_do_not_overlap(last, labels):
    panel = Panel([Series("a", [1.0, last], [0.1, 0.2])], log="x", xticks=(1, 2, 5))
    figure = curves([panel], size=(3.5, 2.5))
    figure.draw_without_rendering()
    axis = figure.axes[0].xaxis
    low, high = axis.get_view_interval()
    shown = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert labels <= {text.get_text() for text in shown}
    assert not overlapping(shown)


def test_a_dollar_in_a_label_is_a_letter():
    figure = intervals([Panel([Series("$x^{$", [0.1], [0])], names=["$\\frac{}$"])])
    assert png(figure, dpi=20).startswith(b"\x89PNG")


def test_a_row_without_a_value_says_so():
    panel = Panel([Series("_", [0.1, np.nan], [0, 1])], names=["a", "b"])
    figure = intervals([panel], absent="not available")
    assert [(text.get_text(), text.get_position()[1]) for text in figure.axes[0].texts] == [
        ("not available", 1)
    ]


def test_estimates_are_read_by_value_low_and_high():
    estimates = [
        {"value": 1, "low": 0, "high": 2},
        {"value": 3, "interval_95": [2, 4]},
        Unavailable("a", "b"),
        None,
    ]
    assert sides(estimates)[:, :2].tolist() == [[1, 3], [0, 2], [2, 4]]
    assert np.isnan(sides(estimates)[:, 2:]).all()
    rows = bounded("a", [5, 6, 7, 8], estimates, rows=True)
    assert (rows.x[0], rows.y[0], rows.low[1], rows.high[1]) == (1, 5, 2, 4)


def test_numbers_of_ticks_are_short():
    numbers = [short_number(value) for value in (0.05, 1, 2500, 2e7, 1e9, -0.5)]
    assert numbers == ["0.05", "1", "2,500", "20 M", "1 G", "−0.5"]


def test_short_names_of_a_legend_stand_in_one_line():
    names = ["95% interval", "mean vote", "central pixel (Kaggle)", "network"]
    figure = curves([Panel([Series(name, [0, 1], [0, 1]) for name in names])], size=(5.7, 2))
    figure.draw_without_rendering()
    assert np.ptp([text.get_window_extent().y1 for text in figure.legends[0].get_texts()]) < 5  # pixels
