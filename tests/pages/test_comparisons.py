import numpy as np
import pytest

from hubblefork.pages.comparisons import broken_constraints, networks_compared, training_of_networks


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
