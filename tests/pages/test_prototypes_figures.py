import numpy as np
import pytest

from hubblefork.pages.sheets import (
    cutout_beside_stamp,
    prototype_of_every_answer,
    prototype_rows,
)


@pytest.fixture
def images():
    return list(np.random.default_rng(0).integers(0, 256, (37, 6, 6, 3), dtype=np.uint8))


def test_every_answer_has_its_image_id_and_value(tree, images):
    images[4] = None
    ids = [None if image is None else 1000 + k for k, image in enumerate(images)]
    values = np.linspace(0, 1, 37)
    figure, numbers = prototype_of_every_answer(tree, images, ids, values)
    for k, (panel, image) in enumerate(zip(figure.axes, images, strict=True)):
        if image is None:
            assert not panel.images
        else:
            assert np.array_equal(panel.images[0].get_array(), image)
            assert panel.get_xlabel() == f"{1000 + k}\n{values[k]:.2f}"
    assert numbers["smooth"] == {"galaxy_id": 1000, "value": 0.0}
    assert numbers[tree.columns[4]]["galaxy_id"] is None


def test_ids_and_values_do_not_run_into_the_questions_below(tree, images):
    figure, _ = prototype_of_every_answer(tree, images, list(range(100_000, 100_037)), np.ones(37))
    figure.draw_without_rendering()
    labels = [panel.xaxis.label.get_window_extent() for panel in figure.axes]
    heads = [text.get_window_extent() for text in figure.texts if text.get_text()]
    assert not any(label.overlaps(head) for label in labels for head in heads)


def test_rows_show_the_chosen_with_both_sides_values(tree, images):
    chosen = {
        "smooth": [(1, 0.9, 0.8, images[0]), (2, 0.7, np.nan, images[1])],
        "merger": [(3, 0.4, 0.1, images[2])],
    }
    figure, numbers = prototype_rows(tree, chosen, by="volunteers", other="lab-cnn")
    page = figure.axes[0]
    shown = [image.get_array() for image in page.images]
    assert all(np.array_equal(a, b) for a, b in zip(shown, images[:3], strict=True))
    texts = [text.get_text() for text in page.texts]
    assert {"1\n0.90 (0.80)", "2\n0.70 (–)", "3\n0.40 (0.10)", "smooth", "merger"} <= set(texts)
    assert numbers["smooth"][1] == {"galaxy_id": 2, "volunteers": 0.7, "lab-cnn": None}


def test_the_kept_square_is_marked_on_the_cutout():
    cutout, stamp = np.zeros((40, 40, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    figure, numbers = cutout_beside_stamp(cutout, stamp, galaxy_id=7, crop=20)
    page = figure.axes[0]
    left, right, bottom, top = page.images[0].get_extent()
    x, y = page.lines[0].get_data()
    assert np.ptp(x) == pytest.approx((right - left) / 2) and np.ptp(y) == pytest.approx((bottom - top) / 2)
    assert np.mean([min(x), max(x)]) == pytest.approx((left + right) / 2)
    assert numbers["cutout"] == [40, 40, 3]
    assert [t.get_text() for t in page.texts] == [
        "galaxy 7: 40 × 40 pixels, 4,800 bytes",
        "its stamp: 8 × 8 pixels, 192 bytes",
    ]
