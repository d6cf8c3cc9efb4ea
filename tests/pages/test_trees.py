from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from hubblefork.pages.style import INK, PAGE
from hubblefork.pages.trees import BOX, decision_tree
from hubblefork.zoo import Answer, DecisionTree, Question, load_tree, plain_columns, tree_names


def longest_way(tree, number):
    """The definition itself: the longest chain of answers that ends at a question."""
    name = tree.questions[number].name
    above = {tree.question_of[c] for c, answer in enumerate(tree.answers) if name in answer.leads_to}
    return max((longest_way(tree, question) + 1 for question in above), default=0)


def question(name, targets, *, root=False, multiple=False):
    answers = [Answer(f"{name}_{k}", f"{name} {k}", f"{name}.{k}", to) for k, to in enumerate(targets)]
    return Question(name, f"{name}?", tuple(answers), root=root, multiple=multiple)


def boxes(figure):
    return [artist for artist in figure.axes[0].patches if isinstance(artist, FancyBboxPatch)]


def cards(figure):
    return [box.get_bbox() for box in boxes(figure) if box.get_facecolor()[:3] == (1, 1, 1)]


def edges(figure):
    return [artist for artist in figure.axes[0].patches if isinstance(artist, PathPatch)]


def check_apart(figure):
    """Cards lie on the page, apart from each other, and no edge goes through one."""
    height = figure.get_size_inches()[1]
    assert all(0 <= c.x0 < c.x1 <= PAGE and 0 <= c.y0 < c.y1 <= height for c in cards(figure))
    for a, b in combinations(cards(figure), 2):
        assert a.x1 < b.x0 or b.x1 < a.x0 or a.y1 < b.y0 or b.y1 < a.y0
    for edge in edges(figure):
        points = Path(edge.get_path().to_polygons(closed_only=False)[0]).interpolated(8).vertices
        assert np.all((points[:, 0] >= 0) & (points[:, 0] <= PAGE))
        for c in cards(figure):
            inside = (points > [c.x0 + 0.01, c.y0 + 0.01]) & (points < [c.x1 - 0.01, c.y1 - 0.01])
            assert not inside.all(axis=1).any()


def check_uncut(figure):
    """Every text is as wide as its box at most."""
    width, height = figure.get_size_inches() * figure.dpi
    renderer, to_inches = RendererAgg(width, height, figure.dpi), figure.axes[0].transData.inverted()
    for text in figure.axes[0].texts:
        extent = text.get_window_extent(renderer).transformed(to_inches)
        x, y = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
        around = [box.get_bbox() for box in boxes(figure) if box.get_bbox().contains(x, y)]
        box = min(around, key=lambda box: box.width)
        assert box.x0 <= extent.x0 and extent.x1 <= box.x1, text.get_text()


def test_rows_of_a_narrow_tree_are_the_longest_ways(tree):
    _, numbers = decision_tree(tree)
    rows = [entry["row"] for entry in numbers["questions"]]
    assert rows == [longest_way(tree, number) for number in range(len(tree.questions))]
    assert max(rows) == rows[tree.questions.index(tree.question("odd_feature"))] == 8


@pytest.mark.parametrize("name", tree_names())
def test_published_trees_are_drawn_without_overlaps_or_cut_text(name):
    tree = load_tree(name)
    figure, numbers = decision_tree(tree)
    assert len(cards(figure)) == len(tree.questions)
    assert len(boxes(figure)) == len(tree.questions) + len(tree.columns)
    check_apart(figure)
    check_uncut(figure)
    row_of = {entry["question"]: entry["row"] for entry in numbers["questions"]}
    for asked in tree.questions:
        assert all(row_of[to] > row_of[asked.name] for answer in asked.answers for to in answer.leads_to)


def test_every_question_and_answer_can_be_read(tree):
    figure, numbers = decision_tree(tree)
    words = " ".join(text.get_text().replace("\n", " ") for text in figure.axes[0].texts)
    for asked in tree.questions:
        assert asked.text in words
        assert all(answer.text in words for answer in asked.answers)
    assert {entry["question"] for entry in numbers["questions"]} == {asked.name for asked in tree.questions}


def test_shares_fit_too(tree):
    figure, _ = decision_tree(tree, shares=np.full(len(tree.columns), 0.5))
    check_apart(figure)
    check_uncut(figure)


def test_many_columns_go_into_several_rows():
    figure, numbers = decision_tree(plain_columns([f"column_number_{k}" for k in range(16)]))
    check_apart(figure)
    check_uncut(figure)
    assert {entry["row"] for entry in numbers["questions"]} == {0, 1, 2, 3}


def test_roots_are_framed_dark_and_shares_written(tree):
    shares = np.linspace(0, 1, len(tree.columns))
    shares[-1] = np.nan
    figure, numbers = decision_tree(tree, shares=shares)
    dark = [box for box in boxes(figure) if box.get_edgecolor()[:3] == pytest.approx((0x1A / 255,) * 3)]
    assert INK == "#1a1a1a"
    assert len(dark) == sum(asked.root for asked in tree.questions) == 2
    written = [text.get_text() for text in figure.axes[0].texts]
    assert "smooth\n0%" in written
    assert "can't tell\n(arms)\n–" in written
    assert numbers["shares"]["cannot_tell_arms"] is None


def test_edges_join_into_one_where_all_answers_go_the_same_way():
    first = question("first", (("second",), ("second",)), root=True)
    tree = DecisionTree("small", (first, question("second", (("third",), ())), question("third", ((), ()))))
    assert len(edges(decision_tree(tree)[0])) == 2


def test_an_answer_that_opens_several_questions_has_an_edge_to_each_in_one_colour():
    first = question("first", (("boxes", "second"), ("second",), ("third",)), root=True)
    others = (question("second", ((), ())), question("third", ((), ())))
    tree = DecisionTree("small", (first, question("boxes", [()] * 7, multiple=True), *others))
    figure, _ = decision_tree(tree)
    starts = [(*edge.get_path().vertices[0], edge.get_edgecolor()) for edge in edges(figure)]
    top = min(start[1] for start in starts)
    assert [start[1] for start in starts].count(top) == 4
    assert len({start for start in starts if start[1] == top}) == 3
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text.startswith(BOX) for text in texts].count(True) == 7
    assert "boxes? (several answers may be given)" in texts
