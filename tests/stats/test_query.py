"""Expressions of answers, against the same thing written with numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubblefork.errors import CatalogueError, HubbleforkError, UnknownAnswer
from hubblefork.stats.query import at_least, parse_query
from hubblefork.zoo import load_tree, plain_columns


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


ODD = [
    "smooth-or-featured_smooth",
    "Ring Galaxy",
    "1arm",
    "class",
    "ring",
    "bar",
    "ring+bar",
    "not",
    "Sérsic n>4",
]


@pytest.fixture(scope="module")
def odd_tree():
    return plain_columns(ODD)


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("quote", ['"', "'", "`"])
def test_every_answer_can_be_counted_and_quoted(odd_tree, name, quote):
    fractions = dict(zip(ODD, np.random.default_rng(0).random((len(ODD), 50)), strict=True))
    for criterion in (at_least(odd_tree, name, 0.3), parse_query(f"{quote}{name}{quote} >= 0.3", odd_tree)):
        assert (criterion.answer, criterion.answers, criterion.threshold) == (name, (name,), 0.3)
        np.testing.assert_array_equal(criterion.holds(fractions), fractions[name] >= 0.3)


def test_a_name_without_a_sign_needs_no_quotes(odd_tree):
    text = "smooth-or-featured_smooth > 0.5 & ~(Ring Galaxy > 0.2 | class>0.1) & 1arm<=0.4"
    found = parse_query(text, odd_tree)
    assert found.answers == tuple(ODD[:4])


def test_a_sum_is_not_taken_for_a_name_nor_a_name_for_a_sum(odd_tree):
    assert parse_query("ring + bar > 0.3", odd_tree).answers == ("ring", "bar")
    assert parse_query("'ring+bar' > 0.3", odd_tree).answers == ("ring+bar",)
    for text in ("ring+bar > 0.3", "0.3 < Sérsic n>4"):
        with pytest.raises(CatalogueError, match="is an answer: write it in quotes"):
            parse_query(text, odd_tree)
    with pytest.raises(UnknownAnswer, match=r'"Ring Galaxi" is not an answer .*did you mean "Ring Galaxy"'):
        parse_query("'Ring Galaxi' > 0.3", odd_tree)


@pytest.mark.parametrize("text", ["~" * 990 + "x", "(" * 400 + "x" + ")" * 400, "+".join(["x"] * 180) + ">1"])
def test_deep_nesting_is_one_line(tree, text):
    with pytest.raises(CatalogueError, match=r"is nested \d+ deep|is no expression of answers"):
        parse_query(text, tree)


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from("merger ring'\"`+~&|<>=().0123456789enotadr-\x00\n\\éß_,[]{}:*@"), max_size=60)
)
def test_any_text_is_a_criterion_or_one_of_our_errors(text):
    tree = plain_columns(["merger", "ring", "ring+bar", "1arm", "not"])
    fractions = {name: np.array([0.2, np.nan]) for name in tree.columns}
    try:
        criterion = parse_query(text, tree)
    except HubbleforkError:
        return
    assert criterion.holds(fractions).shape == (2,)


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


def test_nothing_after_a_hash_is_lost(tree):
    with pytest.raises(CatalogueError, match="has a # outside quotes"):
        parse_query("ring > 0.3 # & merger > 0.3", tree)


def test_an_answer_that_is_called_a_number_is_one_in_quotes_only():
    tree = load_tree("gz_decals_5")
    joint = {name: np.array([0.15, 0.05]) for name in tree.columns}
    assert parse_query("bar_strong > 0.1 | bar_weak > 0.2", tree).holds(joint).tolist() == [True, False]
    assert parse_query('"1" > 0.1', tree).answers == ("spiral_arm_count_1",)
