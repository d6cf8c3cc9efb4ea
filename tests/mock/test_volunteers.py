"""Volunteers of any project: their votes obey its tree, and say what is there."""

from dataclasses import replace

import numpy as np
import pytest

from hubblefork.errors import CatalogueError
from hubblefork.mock import random_galaxy, vote
from hubblefork.zoo import load_tree, parse_tree, plain_columns, tree_names, violations

CHECKBOXES = """
name = "checkboxes"
[[questions]]
name = "shape"
text = "?"
root = true
answers = [
    { name = "smooth", text = "", column = "shape_smooth", leads_to = "oddities" },
    { name = "features_or_disk", text = "", column = "shape_disk", leads_to = ["barred", "oddities"] },
    { name = "star_or_artifact", text = "", column = "shape_star" },
]
[[questions]]
name = "oddities"
text = "?"
multiple = true
answers = [
    { name = "ringed", text = "", column = "oddities_ring" },
    { name = "clumpy", text = "", column = "oddities_clumps" },
    { name = "undisturbed", text = "", column = "oddities_none" },
]
[[questions]]
name = "barred"
text = "?"
answers = [
    { name = "strong_bar", text = "", column = "barred_strong" },
    { name = "neither_bar", text = "", column = "barred_no" },
]
"""
TREES = {name: load_tree(name) for name in tree_names()} | {"checkboxes": parse_tree(CHECKBOXES, "test")}


def answered(tree, count=60, volunteers=None, **truth):
    rng = np.random.default_rng(0)
    galaxies = [replace(random_galaxy(rng, merger_fraction=0.1), **truth) for _ in range(count)]
    return [vote(galaxy, tree, rng, volunteers=volunteers) for galaxy in galaxies]


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_counts_obey_the_tree(tree):
    votes = answered(tree)
    numbers = {question.name: number for number, question in enumerate(tree.questions)}
    for each in votes:
        expected = dict.fromkeys(numbers, 0)
        for answer, count in zip(tree.answers, each.counts, strict=True):
            for name in answer.leads_to:
                expected[name] += count
        for question, answers, asked in zip(tree.questions, tree.slices, each.asked, strict=True):
            counts = each.counts[answers]
            assert counts.sum() == asked if question.exclusive else counts.max() <= asked
            led_to = any(question.name in answer.leads_to for answer in tree.answers)
            assert asked == (expected[question.name] if led_to else each.volunteers)
    assert violations(tree, np.stack([each.joint(tree) for each in votes]), 1e-9) == []


def test_each_box_is_ticked_by_itself():
    votes = answered(TREES["checkboxes"], kind="irregular", clumps=6, ring=0.9, petro_r90=12.0, disturbed=0.0)
    boxes = np.sum([each.counts[3:6] for each in votes], axis=0) / sum(each.asked[1] for each in votes)
    assert boxes[0] > 0.6 and boxes[1] > 0.6 and boxes[2] == pytest.approx(0.5, abs=0.1)


FACE_ON = {"kind": "disk", "axis_ratio": 0.8, "arms": 0, "arm_contrast": 0.0, "ring": 0.0, "disturbed": 0.0}


@pytest.mark.parametrize(
    ("answer", "truth", "other", "least"),
    [
        ("bar_strong", {"bar": 0.95}, {"bar": 0.4}, 0.4),
        ("bar_weak", {"bar": 0.4}, {"bar": 0.0}, 0.4),
        ("bulge_size_none", {"bulge": 0.0}, {"bulge": 0.3}, 0.2),
        ("bulge_size_large", {"bulge": 0.55}, {"bulge": 0.1}, 0.25),
        ("merging_merger", {"is_merger": True, "companion": 0.9, "tails": 0.8}, {"is_merger": False}, 0.4),
        ("merging_major_disturbance", {"is_merger": False, "disturbed": 0.9}, {"is_merger": False}, 0.4),
        ("clumps_yes", {"kind": "irregular", "clumps": 7}, {}, 0.4),
        ("problem_star", {"kind": "star"}, {"kind": "artifact"}, 0.4),
        ("artifact_satellite", {"kind": "artifact"}, {"kind": "star"}, 0.4),
        ("disk_edge_on_yes", {"axis_ratio": 0.15}, {}, 0.4),
        ("how_rounded_round", {"kind": "elliptical", "axis_ratio": 0.97}, {"kind": "elliptical"}, 0.4),
    ],
)
def test_volunteers_see_what_is_there(answer, truth, other, least):
    tree = TREES["gz_euclid"]
    seen, unseen = (
        np.mean([each.joint(tree)[tree.columns.index(answer)] for each in answered(tree, **FACE_ON | what)])
        for what in ({"petro_r90": 12.0, **truth}, {"petro_r90": 12.0, **other})
    )
    assert seen > 2 * unseen and seen > least


def test_few_volunteers_are_few_and_one_at_least():
    numbers = [each.volunteers for each in answered(TREES["checkboxes"], volunteers=3)]
    assert min(numbers) >= 1 and np.mean(numbers) == pytest.approx(3, abs=0.4)


def test_what_volunteers_cannot_answer_is_named():
    with pytest.raises(CatalogueError, match=r"tree plain_columns: .* cannot answer is_blue"):
        vote(random_galaxy(np.random.default_rng(0), merger_fraction=0), plain_columns(["is_blue"]),
             np.random.default_rng(0))  # fmt: skip
