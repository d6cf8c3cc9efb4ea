"""Expressions of answers, against the same thing written with numpy."""

import numpy as np
import pytest

from hubblefork.errors import CatalogueError, UnknownAnswer
from hubblefork.stats.query import at_least, parse_query


@pytest.fixture
def joint(tree):
    return dict(zip(tree.columns, np.random.default_rng(0).random((len(tree.columns), 200)), strict=True))


def test_and_binds_less_tightly_than_a_comparison(tree, joint):
    found = parse_query("spiral > 0.5 & barred > 0.3", tree).holds(joint)
    expected = (joint["spiral"] > 0.5) & (joint["barred"] > 0.3)
    assert 0 < expected.sum() < 200
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "text", ["ring > 0.2 | ~(merger > 0.3) & smooth <= 0.6", "not merger > 0.3 & smooth <= 0.6 or ring > 0.2"]
)
def test_or_not_and_parentheses(tree, joint, text):
    ring, merger, smooth = (joint[name] for name in ("ring", "merger", "smooth"))
    np.testing.assert_array_equal(
        parse_query(text, tree).holds(joint), (ring > 0.2) | (~(merger > 0.3) & (smooth <= 0.6))
    )


def test_sums_and_chains(tree, joint):
    disturbed, irregular = joint["disturbed"], joint["irregular"]
    np.testing.assert_array_equal(
        parse_query("0.4 < disturbed + irregular <= 0.9", tree).holds(joint),
        (disturbed + irregular > 0.4) & (disturbed + irregular <= 0.9),
    )


def test_an_answer_may_be_named_by_its_text(tree):
    assert parse_query("spiral > 0.5 & bar > 0.3", tree).answers == ("barred", "spiral")


def test_the_plain_criterion_keeps_answer_and_threshold(tree, joint):
    for criterion in (at_least(tree, "Class8.6", 0.3), parse_query("merger ≥ 0.3", tree)):
        assert (criterion.answer, criterion.threshold, criterion.text) == ("merger", 0.3, "merger ≥ 0.3")
        np.testing.assert_array_equal(criterion.holds(joint), joint["merger"] >= 0.3)
    assert parse_query("merger > 0.3", tree).answer is None


def test_the_threshold_itself_counts_only_with_at_least(tree, joint):
    joint["merger"][0] = 0.3
    assert parse_query("merger >= 0.3", tree).holds(joint)[0]
    assert not parse_query("merger > 0.3", tree).holds(joint)[0]
    assert parse_query("merger <= 0.3", tree).holds(joint)[0]
    assert not parse_query("merger < 0.3", tree).holds(joint)[0]


def test_what_is_missing_is_not_known_and_does_not_count(tree, joint):
    joint["barred"][3] = np.nan
    joint["ring"][4] = np.nan
    criterion = parse_query("~(barred > 2e-1)", tree)
    assert np.flatnonzero(~criterion.known(joint)).tolist() == [3]
    assert not criterion.holds(joint)[3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("spirl > 0.5", 'did you mean "spiral"'),
        ("mergers >= 0.3", 'did you mean "merger"'),
    ],
)
def test_unknown_answers_come_with_the_nearest(tree, text, said):
    with pytest.raises(UnknownAnswer, match=said):
        parse_query(text, tree)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0.3 > 0.2",
        "spiral",
        "spiral > 0.5 &",
        "spiral > 0.5 && barred > 0.3",
        "spiral == 0.5",
        "spiral > 30",
        "spiral > -0.1",
        "spiral > True",
        "(spiral > 0.5) > 0.2",
        "spiral * 2 > 0.5",
        "__import__('os').system('true') > 0",
        "spiral.real > 0.5",
        "[spiral][0] > 0.5",
        "(lambda: 1)() > 0.5",
        "spiral > 'a'",
        "Class8.6 > 0.3",
        "(" * 400 + "spiral > 0.5" + ")" * 400,
        "spiral > 0.5 & " * 200 + "spiral > 0.5",
    ],
)
def test_what_is_no_comparison_of_fractions(tree, text):
    with pytest.raises((CatalogueError, UnknownAnswer)):
        parse_query(text, tree)
