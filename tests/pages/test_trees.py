from itertools import combinations

import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch, PathPatch

from hubblefork.pages.style import INK, PAGE
from hubblefork.pages.trees import decision_tree, question_levels
from hubblefork.zoo import Answer, DecisionTree, Question


def longest_way(tree, number):
    """The definition itself: the longest chain of answers that ends at a question."""
    name = tree.questions[number].name
    above = {tree.question_of[c] for c, answer in enumerate(tree.answers) if name in answer.leads_to}
    return max((longest_way(tree, question) + 1 for question in above), default=0)


def boxes(figure):
    return [artist for artist in figure.axes[0].patches if isinstance(artist, FancyBboxPatch)]


def test_levels_are_the_longest_ways(tree):
    levels = question_levels(tree)
    assert levels == [longest_way(tree, number) for number in range(len(tree.questions))]
    assert max(levels) == levels[tree.questions.index(tree.question("odd_feature"))] == 8


def test_every_question_and_answer_can_be_read(tree):
    figure, numbers = decision_tree(tree)
    words = " ".join(text.get_text().replace("\n", " ") for text in figure.axes[0].texts)
    for question in tree.questions:
        assert question.text in words
        assert all(answer.text in words for answer in question.answers)
    assert len(boxes(figure)) == len(tree.questions) + len(tree.columns)
    assert {entry["question"] for entry in numbers["questions"]} == {
        question.name for question in tree.questions
    }


def test_cards_stay_on_the_page_and_do_not_overlap(tree):
    figure, _ = decision_tree(tree, shares=np.full(len(tree.columns), 0.5))
    height = figure.get_size_inches()[1]
    cards = [box.get_bbox() for box in boxes(figure) if box.get_facecolor()[:3] == (1, 1, 1)]
    assert len(cards) == len(tree.questions)
    assert all(0 <= c.x0 < c.x1 <= PAGE and 0 <= c.y0 < c.y1 <= height for c in cards)
    for a, b in combinations(cards, 2):
        assert a.x1 < b.x0 or b.x1 < a.x0 or a.y1 < b.y0 or b.y1 < a.y0


def test_roots_are_framed_dark_and_shares_written(tree):
    shares = np.linspace(0, 1, len(tree.columns))
    shares[-1] = np.nan
    figure, numbers = decision_tree(tree, shares=shares)
    dark = [box for box in boxes(figure) if box.get_edgecolor()[:3] == pytest.approx((0x1A / 255,) * 3)]
    assert INK == "#1a1a1a"
    assert len(dark) == sum(question.root for question in tree.questions) == 2
    written = [text.get_text() for text in figure.axes[0].texts]
    assert "smooth\n0%" in written
    assert "can't tell\n(arms)\n–" in written
    assert numbers["shares"]["cannot_tell_arms"] is None


def test_edges_join_into_one_where_all_answers_go_the_same_way():
    def question(name, targets, *, root=False):
        answers = [Answer(f"{name}_{k}", f"{name} {k}", f"{name}.{k}", to) for k, to in enumerate(targets)]
        return Question(name, f"{name}?", tuple(answers), root=root)

    tree = DecisionTree(
        "small",
        (
            question("first", (("second",), ("second",)), root=True),
            question("second", (("third",), ())),
            question("third", ((), ())),
        ),
    )
    figure, _ = decision_tree(tree)
    assert len([artist for artist in figure.axes[0].patches if isinstance(artist, PathPatch)]) == 2
