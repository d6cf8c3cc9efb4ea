"""The walk down the tree: what arrives at a question is its reach; cards stand apart and hold their rows."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hubblefork.gallery.browse import drawn
from hubblefork.gallery.walk import FEWEST, UNIT, walk
from hubblefork.zoo import load_tree, reach, to_joint, tree_names


def joint_of(tree, seed=0):
    rng = np.random.default_rng(seed)
    shares = [rng.dirichlet(np.full(len(question.answers), 2.0)) for question in tree.questions]
    return to_joint(tree, np.concatenate(shares)[None])[0]


@pytest.mark.parametrize("name", tree_names())
def test_what_arrives_is_what_was_answered_and_nothing_overlaps(name):
    tree = load_tree(name)
    joint = joint_of(tree)
    made = walk(tree, joint)
    asked = reach(tree, joint[None])[0]
    assert {card.question for card in made.cards} == set(np.flatnonzero(asked >= FEWEST).tolist())
    assert made.left_out == len(tree.questions) - len(made.cards)
    for card in made.cards:
        ways_in = [way for way in tree.parents[card.question] if asked[tree.question_of[way]] >= FEWEST]
        assert card.arrived == pytest.approx(joint[ways_in].sum() * UNIT, abs=1e-6)
        upper = [row.middle - row.height / 2 for row in card.rows]
        lower = [row.middle + row.height / 2 for row in card.rows]
        assert all(above <= below + 1e-9 for above, below in zip(lower[:-1], upper[1:], strict=True))
        assert lower[-1] <= card.height and all(row.fraction * UNIT <= row.height for row in card.rows)
    for left in {card.left for card in made.cards}:
        column = sorted((card for card in made.cards if card.left == left), key=lambda card: card.top)
        assert all(one.top + one.height < other.top for one, other in pairwise(column))
        assert column[-1].top + column[-1].height <= made.height and left < made.width


def test_every_answer_is_said_with_its_interval_and_votes_and_escaped(tree):
    first = tree.questions[0]
    answers = (replace(first.answers[0], text="<b>smooth</b>"), *first.answers[1:])
    tree = replace(tree, questions=(replace(first, answers=answers), *tree.questions[1:]))
    joint = joint_of(tree)
    votes = joint.copy()
    votes[1] = np.nan
    svg = drawn(walk(tree, joint, low=joint / 2, high=joint, votes=votes))
    smooth = f"{joint[0]:.2f}, interval {joint[0] / 2:.2f} to {joint[0]:.2f}, volunteers {joint[0]:.2f}"
    assert f"&lt;b&gt;smooth&lt;/b&gt;: {smooth}" in svg and "<b>" not in svg
    assert f"features or disk: {joint[1]:.2f}, interval {joint[1] / 2:.2f} to {joint[1]:.2f}<" in svg


def test_nothing_is_drawn_of_what_nobody_was_asked(tree):
    joint = np.full(len(tree.columns), np.nan)
    joint[:3] = 0.97, 0.03, 0
    made = walk(tree, joint)
    names = [tree.questions[card.question].name for card in made.cards]
    assert names == ["smooth_or_features", "roundness", "odd"]
    assert len(made.ribbons) == 1 and "97% of all go on to “How rounded is it?”" in made.ribbons[0].text


def test_the_page_of_a_galaxy_has_its_walk_with_votes(client, files, tree):
    page = client.get("/galaxy/1003").text
    row, votes = files.joint[3], files.votes[3]
    assert f'aria-label="something odd: {row[13]:.2f}, volunteers {votes[13]:.2f}"' in page
    assert tree.columns[13] == "something_odd"
