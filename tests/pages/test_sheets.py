import numpy as np
import pytest

from hubblefork.errors import UnknownAnswer
from hubblefork.pages.sheets import image_sheet, prototype_sheet
from hubblefork.pages.style import SMALL, text_width


@pytest.fixture(scope="module")
def stamps():
    return np.random.default_rng(4).integers(0, 256, (80, 6, 6, 3), dtype=np.uint8)


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
        tree,
        "odd_feature",
        ids=np.arange(60) + 1000,
        stamps=stamps,
        places=places,
        volunteers=votes,
        predicted=predicted,
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
    few = {"ids": np.arange(2), "stamps": stamps, "places": np.arange(2)}
    figure, _ = prototype_sheet(tree, "bar", volunteers=votes[:2], predicted=predicted[:2], **few)
    assert len(figure.axes[0].images) == 2 * 2 * 2


def test_a_question_of_another_tree_is_refused(tree, votes, predicted, stamps):
    few = {"ids": np.arange(2), "stamps": stamps, "places": np.arange(2)}
    with pytest.raises(UnknownAnswer, match="colour"):
        prototype_sheet(tree, "colour", volunteers=votes[:2], predicted=predicted[:2], **few)
