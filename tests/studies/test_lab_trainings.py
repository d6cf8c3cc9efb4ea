"""Which trainings the lab study plans, and the report's own numbers beside ours."""

import numpy as np
import pytest
import torch

from hubblefork.errors import CatalogueError, RecipeError
from hubblefork.network.heads import LabHead
from hubblefork.network.model import VoteFractions, count_parameters, summarise
from hubblefork.network.recipe import load_recipe
from hubblefork.studies.lab import run_lab
from hubblefork.studies.lab.networks import ALL, AUGMENTED, NETWORKS, REPORT, heads_folder, plan
from hubblefork.studies.lab.results import published_reweighting


def by_folder(**settings):
    return {training.folder: training.recipe for training in plan(**settings)}


def test_three_networks_a_cure_and_every_head_with_every_seed():
    recipes = by_folder(seeds=2)
    heads = [heads_folder(head, seed) for seed in (0, 1) for head in ("sigmoid", "lab", "tree")]
    assert list(recipes) == [*NETWORKS, *AUGMENTED.values(), *heads]
    for name in ALL[:-1]:
        assert recipes[name] == load_recipe(name)
    for plain, cured in AUGMENTED.items():
        assert recipes[cured].augments and not recipes[plain].augments
        assert recipes[cured].head == recipes[plain].head
    assert (recipes["heads/lab-seed1"].head, recipes["heads/lab-seed1"].seed) == ("lab", 1)
    others = [{**vars(recipes[folder]), "head": "", "seed": 0} for folder in heads]
    assert all(other == others[0] for other in others)


def test_settings_go_to_all_or_to_the_one_they_are_addressed_to():
    settings = ["lab-resnet50:epochs=7", "epochs=5", "heads:steps_per_epoch=11"]
    recipes = by_folder(seeds=1, settings=settings, defaults=["lab-cnn:epochs=90", "batch_size=16"])
    assert {recipes[name].epochs for name in ("lab-cnn", "lab-cnn-augmented", "heads/tree-seed0")} == {5}
    assert recipes["lab-resnet50"].epochs == 7
    assert [recipes[name].steps_per_epoch == 11 for name in ("lab-cnn", "heads/tree-seed0")] == [False, True]
    assert {recipe.batch_size for recipe in recipes.values()} == {16}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["lab-resnet:epochs=1"], 'did you mean "lab-resnet50'),
        (["lab-cnn:epoch=1"], 'did you mean "epochs"'),
        (["lab-cnn:epochs"], "has no value"),
    ],
)
def test_a_setting_for_nobody_is_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        plan(seeds=1, settings=settings)


def test_without_seeds_heads_cannot_be_compared():
    with pytest.raises(RecipeError, match="at least 1"):
        plan(seeds=0)


def test_without_data_the_study_says_what_to_do(tmp_path):
    with pytest.raises(CatalogueError, match="--quick"):
        run_lab(None, tmp_path)


@pytest.mark.parametrize(
    ("name", "total"),
    [("lab-cnn", 1_652_453), ("lab-resnet50", 23_890_853), ("lab-resnet50-reweighted", 25_250_149)],
)
def test_our_layers_are_those_of_the_reports_tables(tree, name, total):
    recipe = load_recipe(name)
    network = VoteFractions(recipe, tree)
    counted = count_parameters(network)
    stated = REPORT["networks"][name]
    assert (counted.keras, sum(count for _, _, count in stated["layers"])) == (total, total)
    assert counted.statistics == stated["statistics"]
    ours = [(layer.output_shape, layer.parameters.keras) for layer in summarise(network, recipe.input_size)]
    theirs = [(tuple(shape), count) for _, shape, count in stated["layers"]]
    assert [layer for layer in ours if layer[1]] == [layer for layer in theirs if layer[1]]


def test_the_published_reweighting_is_the_lab_head_where_it_works_and_breaks_where_it_divides_by_zero(tree):
    scores = np.random.default_rng(0).normal(0, 3, (20, 37)).astype(np.float32)
    head = LabHead(tree)
    assert published_reweighting(tree, scores) == pytest.approx(
        head(torch.from_numpy(scores)).numpy(), abs=1e-5
    )
    scores[:, tree.slices[0]] = -120
    broken = np.isnan(published_reweighting(tree, scores)).all(axis=0)
    asked_of_all = [question.root for question in tree.questions]
    assert broken.tolist() == [asked_of_all[number] for number in tree.question_of]
    assert torch.isfinite(head(torch.from_numpy(scores))).all()
