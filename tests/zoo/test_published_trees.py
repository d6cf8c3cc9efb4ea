import re

import pytest

from hubblefork.zoo import load_tree, parse_tree, tree_names, tree_text

COUNTS = {
    "galaxy_zoo_2": (11, 37),
    "gz2_galaxy_datasets": (10, 30),
    "gz_candels": (11, 32),
    "gz_cosmic_dawn": (13, 45),
    "gz_decals_1_2": (10, 30),
    "gz_decals_5": (10, 34),
    "gz_euclid": (13, 46),
    "gz_hubble": (12, 34),
    "gz_jwst_ceers": (12, 39),
    "gz_jwst_cosmos": (11, 36),
    "gz_rings": (1, 2),
    "gz_ukidss": (10, 30),
}
"""Questions and answers; but for Galaxy Zoo 2, which is Kaggle's, those of galaxy-datasets 0.0.25."""


def test_no_tree_is_left_out_here():
    assert tree_names() == tuple(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_a_tree_has_as_many_questions_and_answers_as_its_source(name):
    tree = load_tree(name)
    assert tree.name == name
    assert (len(tree.questions), len(tree.answers)) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_a_tree_names_its_source_and_is_read_as_it_is_written(name):
    tree = load_tree(name)
    assert re.search(r"doi:10\.\d{4,}/\S+", tree.source)
    assert parse_tree(tree_text(tree), name) == tree


@pytest.mark.parametrize("name", sorted(COUNTS.keys() - {"galaxy_zoo_2"}))
def test_a_published_column_is_the_name_with_hyphens_and_unique_in_every_survey(name):
    tree = load_tree(name)
    pairs = [(question, answer) for question in tree.questions for answer in question.answers]
    for question, answer in pairs:
        published, given = answer.column.split("_")
        assert published.replace("-", "_") == question.name
        assert f"{question.name}_{given.replace('-', '_')}" == answer.name
    spelled = [
        (f"{q.name}-{suffix}".strip("-"), a.column.split("_")[1])
        for suffix in tree.suffixes
        for q, a in pairs
    ]
    assert tree.suffixes
    assert len(set(spelled)) == len(spelled) == len(tree.suffixes) * len(tree.columns)


def opened(name, answer):
    tree = load_tree(name)
    return set(tree.answers[tree.column(answer)].leads_to)


def test_what_is_asked_of_all_that_is_no_edge_on_disk_is_opened_together():
    face_on = {"has_spiral_arms", "bar", "bulge_size"}
    assert opened("gz_decals_5", "disk-edge-on_no") == face_on
    assert opened("gz_cosmic_dawn", "disk-edge-on_no") == {*face_on, "clumps"}
    assert opened("gz_decals_5", "has-spiral-arms_yes") == {"spiral_winding", "spiral_arm_count"}
    assert opened("gz_cosmic_dawn", "problem_artifact") == {"artifact"}


@pytest.mark.parametrize("name", ["gz_decals_1_2", "gz_decals_5", "gz_candels", "gz_euclid", "gz_jwst_ceers"])
def test_mergers_are_asked_of_smooth_and_of_featured_galaxies(name):
    tree = load_tree(name)
    ways_in = tree.parents[tree.questions.index(tree.question("merging"))]
    assert ways_in == (0, 1)
    assert tree.columns[0] == "smooth_or_featured_smooth"
    assert tree.columns[1].startswith("smooth_or_featured_featur")


def test_clumpy_galaxies_join_at_the_larger_object():
    tree = load_tree("gz_hubble")
    number = tree.questions.index(tree.question("clumps_embedded_larger_object"))
    ways_in = {tree.columns[way] for way in tree.parents[number]}
    assert ways_in == {"galaxy_symmetrical_yes", "galaxy_symmetrical_no"}
    assert tree.columns[tree.gates[number]] == "clumpy_appearance_yes"
