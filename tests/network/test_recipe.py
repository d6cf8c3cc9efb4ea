"""Recipes: what they say, and what they complain about."""

from dataclasses import asdict

import pytest

from hubblefork.errors import RecipeError
from hubblefork.network.recipe import (
    differences,
    load_recipe,
    override,
    parse_recipe,
    recipe_names,
    recipe_text,
)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_named_as_its_file_and_survives_writing(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert parse_recipe(recipe_text(recipe), "written") == recipe


def test_lab_cnn_follows_the_report():
    recipe = asdict(load_recipe("lab-cnn"))
    published = {
        "batch_size": 128,
        "epochs": 100,
        "steps": 200,
        "patience": 20,
        "min_delta": 0.001,
        "plateau_factor": 0.5,
        "plateau_patience": 6,
        "plateau_floor": 1e-13,
        "input_size": 64,
        "head": "sigmoid",
    }
    assert {key: recipe[key] for key in published} == published


def test_settings_are_read_as_their_fields_declare():
    recipe = load_recipe("lab-cnn", ["epochs=3", "learning_rate=1", "head=tree", "name = 7th"])
    assert (recipe.epochs, recipe.learning_rate, recipe.head, recipe.name) == (3, 1.0, "tree", "7th")
    assert isinstance(recipe.learning_rate, float)


def test_all_complaints_come_at_once_with_the_nearest_name():
    with pytest.raises(RecipeError) as caught:
        load_recipe("lab-cnn", ["epoch=3", "batch_size=many", "flip"])
    message = str(caught.value)
    assert 'no field "epoch" (did you mean "epochs"?)' in message
    assert "batch_size = 'many' should be int" in message
    assert '"flip" has no value' in message


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("head=tre", 'head = "tre" (did you mean "tree"?), one of sigmoid, lab, tree'),
        ("watch=accuracy", "one of validation_rmse, validation_agreement"),
        ("flip=1.5", "flip = 1.5, a probability"),
        ("zoom=0.5", "zoom = 0.5, a factor of at least 1"),
        ("input_size=65", "input_size = 65, at most stamp_size = 64"),
        ("epochs=0", "epochs = 0, at least 1"),
        ("steps=-1", "steps = -1, at least 0"),
        ("learning_rate=0", "learning_rate = 0.0, above 0"),
        ("plateau_factor=1", "plateau_factor = 1.0, between 0 and 1"),
        ("learning_rate=nan", "learning_rate = nan, above 0"),
        ("optimiser=adamm", 'optimiser = "adamm" (did you mean "adam'),
        ("schedule=cosin", 'schedule = "cosin" (did you mean "cosine"?), one of plateau, cosine, one-cycle'),
        ("precision=16", 'precision = "16"'),
        ("rotation_chance=2", "rotation_chance = 2.0, a probability"),
        ("weight_decay=-1", "weight_decay = -1.0, at least 0"),
        ("warmup=3", "warmup = 3.0, but the schedule plateau has none"),
        ("compile=1", "compile = 1 should be bool"),
        ("minutes=-1", "minutes = -1.0, at least 0"),
    ],
)
def test_values_that_cannot_work_are_refused(setting, complaint):
    with pytest.raises(RecipeError) as caught:
        load_recipe("lab-cnn", [setting])
    assert complaint in str(caught.value)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match=r'no recipe "labcnn" \(did you mean "lab-cnn"\?\)'):
        load_recipe("labcnn")


def test_a_recipe_file_is_checked_as_a_whole(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\narchitectur = "lab-cnn"\nepochs = "3"\n')
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    for complaint in (
        "about is missing",
        "architecture is missing",
        'no field "architectur"',
        "epochs = '3'",
    ):
        assert complaint in str(caught.value)


def test_a_recipe_file_that_is_no_toml_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("name = ")
    with pytest.raises(RecipeError, match=r"mine\.toml: not a recipe"):
        load_recipe(str(path))


def test_differences_name_fields_and_values():
    recipe = load_recipe("lab-cnn")
    assert differences(override(recipe, ["epochs=3"]), recipe) == ["epochs: 3, not 100"]
    assert differences(recipe, recipe) == []


def test_switches_and_names_that_look_like_numbers_are_read():
    recipe = load_recipe("lab-cnn", ["compile=true", "precision=32", 'head="tree"'])
    assert (recipe.compile, recipe.precision, recipe.head) == (True, "32", "tree")


def test_a_warm_up_is_shorter_than_the_training():
    with pytest.raises(RecipeError, match=r"warmup = 5\.0, below epochs = 5"):
        load_recipe("lab-cnn", ["schedule=cosine", "warmup=5", "epochs=5"])


def test_without_augmentation_nothing_is_moved():
    assert not load_recipe("lab-cnn").augments
    assert not load_recipe("lab-cnn", ["rotation_chance=0.5"]).augments
    assert load_recipe("lab-cnn", ["shift=1"]).augments
