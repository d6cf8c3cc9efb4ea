import numpy as np
import pytest

from hubblefork.pages.comparisons import errors_over_galaxies
from hubblefork.stats.curves import LearningCurve, PowerLaw

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
