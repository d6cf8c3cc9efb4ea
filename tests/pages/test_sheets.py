import numpy as np
import pyarrow as pa
import pytest

from hubblefork.data.judged import JudgedGalaxies
from hubblefork.errors import UnknownAnswer
from hubblefork.pages.sheets import (
    cutout_beside_stamp,
    image_sheet,
    prototype_of_every_answer,
    prototype_rows,
    prototype_sheet,
)
from hubblefork.pages.style import SMALL, text_width


@pytest.fixture(scope="module")
def stamps():
    return np.random.default_rng(4).integers(0, 256, (80, 6, 6, 3), dtype=np.uint8)


def galaxies(ids, votes, predicted, rows):
    return JudgedGalaxies(ids, predicted, votes, pa.table({"galaxy_id": ids}), "made", rows)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_sheet_shows_every_stamp_over_its_id(stamps):
    figure, numbers = image_sheet(stamps[:7], range(100, 107), notes=["0.5"] * 7, columns=3)
    shown = figure.axes[0].images
    assert len(shown) == 7
    assert all(
        np.array_equal(image.get_array(), pixels) for image, pixels in zip(shown, stamps, strict=False)
    )
    assert texts(figure) == [f"{galaxy_id}\n0.5" for galaxy_id in range(100, 107)]
    assert numbers["galaxy_ids"] == list(range(100, 107))


def test_stamps_neither_touch_nor_leave_the_page(stamps):
    figure, _ = image_sheet(stamps[:7], range(7), columns=3)
    width, height = figure.get_size_inches()
    boxes = [image.get_extent() for image in figure.axes[0].images]
    for number, (left, right, bottom, top) in enumerate(boxes):
        assert -1e-9 <= left < right <= width + 1e-9
        assert -1e-9 <= top < bottom <= height + 1e-9
        for other in boxes[:number]:
            assert right < other[0] or other[1] < left or bottom < other[3] or other[2] < top


def test_a_long_id_is_shortened_to_its_place(stamps):
    figure, numbers = image_sheet(stamps[:9], [f"J{'0' * 40}{k}" for k in range(9)], columns=9)
    assert all(text_width(text, SMALL) < 0.8 and "…" in text for text in texts(figure))
    assert numbers["galaxy_ids"][8] == f"J{'0' * 40}8"


def test_prototypes_are_the_highest_by_either_side(tree, votes, predicted, stamps):
    places = np.arange(60) + 13
    figure, numbers = prototype_sheet(
        tree, "odd_feature", galaxies(np.arange(60) + 1000, votes, predicted, places), stamps
    )
    images = [image.get_array() for image in figure.axes[0].images]
    assert len(images) == 7 * 2 * 5
    for name, values in {"volunteers": votes, "network": predicted}.items():
        column = values[:, tree.column("merger")]
        expected = np.argsort(-np.nan_to_num(column, nan=-1), kind="stable")[:5]
        found = numbers["answers"]["merger"][name]
        assert found["galaxy_ids"] == (expected + 1000).tolist()
        assert found["predicted"] == pytest.approx(predicted[expected, tree.column("merger")], rel=1e-5)
        assert any(np.array_equal(image, stamps[places[expected[0]]]) for image in images)
        assert f"{expected[0] + 1000}\n{column[expected[0]]:.2f}" in texts(figure)


def test_fewer_galaxies_than_places_leave_places_empty(tree, votes, predicted, stamps):
    few = galaxies(np.arange(2), votes[:2], predicted[:2], np.arange(2))
    figure, _ = prototype_sheet(tree, "bar", few, stamps)
    assert len(figure.axes[0].images) == 2 * 2 * 2


def test_a_question_of_another_tree_is_refused(tree, votes, predicted, stamps):
    few = galaxies(np.arange(2), votes[:2], predicted[:2], np.arange(2))
    with pytest.raises(UnknownAnswer, match="colour"):
        prototype_sheet(tree, "colour", few, stamps)


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
