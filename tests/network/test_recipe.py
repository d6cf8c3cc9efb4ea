"""Recipes: what they say, what they complain about, and the list of them."""

import re
import sys
from dataclasses import asdict, replace

import pytest
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.errors import RecipeError
from hubblefork.network.recipe import (
    OLD_NAMES,
    changed,
    differences,
    load_recipe,
    override,
    parse_recipe,
    recipe_names,
    recipe_text,
)
from hubblefork.network.space import parse_space


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
        "steps_per_epoch": 200,
        "patience": 20,
        "min_delta": 0.001,
        "plateau_factor": 0.5,
        "plateau_patience": 6,
        "min_learning_rate": 1e-13,
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
    assert "batch_size = 'many' should be a valid integer" in message
    assert '"flip" has no value' in message


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (
            "head=tre",
            "head = 'tre' should be 'sigmoid', 'lab', 'tree', 'dirichlet' or 'dieleman' "
            '(did you mean "tree"?)',
        ),
        ("monitor=accuracy", "should be 'validation_rmse' or 'validation_agreement'"),
        ("flip=1.5", "flip = 1.5 should be less than or equal to 1"),
        ("zoom=0.5", "zoom = 0.5 should be greater than or equal to 1"),
        ("input_size=65", "input_size = 65, at most stamp_size = 64"),
        ("blur=21.5", "blur = 21.5, below a third of input_size = 64"),
        ("noise=10", "noise = 10.0, at most 1, which is white: 10 of 255 is 0.039"),
        ("light_probability=0.5", "light_probability = 0.5, but nothing changes the light"),
        ("epochs=0", "epochs = 0 should be greater than or equal to 1"),
        ("steps_per_epoch=-1", "steps_per_epoch = -1 should be greater than or equal to 0"),
        ("learning_rate=0", "learning_rate = 0 should be greater than 0"),
        ("plateau_factor=1", "plateau_factor = 1 should be less than 1"),
        ("learning_rate=nan", "learning_rate = nan should be a finite number"),
        ("optimiser=adamm", "optimiser = 'adamm' should be 'adam', 'adamw', 'muon' or 'sgd' (did you mean"),
        ("schedule=cosin", '(did you mean "cosine"?)'),
        ("precision=16", "precision = '16' should be"),
        ("rotation_probability=2", "rotation_probability = 2 should be less than or equal to 1"),
        ("weight_decay=-1", "weight_decay = -1 should be greater than or equal to 0"),
        ("warmup_epochs=3", "warmup_epochs = 3.0, but the schedule plateau has no warmup"),
        ("compile=1", "compile = 1 should be a valid boolean"),
        ("epochs=2.5", "epochs = 2.5 should be a valid integer"),
        ("max_minutes=-1", "max_minutes = -1 should be greater than or equal to 0"),
        ("seed=-1", "seed = -1 should be greater than or equal to 0"),
        ("seed=4294967296", "seed = 4294967296 should be less than 4294967296"),
        ("zoom=inf", "zoom = inf should be a finite number"),
        ("shift=nan", "shift = nan should be a finite number"),
        ("zoom=101", "zoom = 101 should be less than or equal to 100"),
        ("shift=65", "shift = 65.0, at most stamp_size = 64"),
        ("epochs=2147483648", "epochs = 2147483648 should be less than 2147483648"),
        ("learning_rate=1e400", "learning_rate = inf should be a finite number"),
        (f"epochs={'1' * 5000}", f"epochs = '{'1' * 59}… should be a valid integer"),
        (f"epochs={'[' * 99999}", f"epochs = '{'[' * 59}… should be a valid integer"),
        ("epochs=1\nseed=2", "epochs = '1\\nseed=2' should be a valid integer"),
        ("name=\udcff", "'\\udcff' is no UTF-8 text"),
        ("batch_size=0", "batch_size = 0 should be greater than or equal to 1"),
        ("monitr=validation_rmse", 'no field "monitr" (did you mean "monitor"?)'),
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
        "description is missing",
        "architecture is missing",
        'no field "architectur"',
        "epochs = '3' should be a valid integer",
    ):
        assert complaint in str(caught.value)


def test_a_recipe_on_another_holds_what_differs(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "mine"\nbase = "fork"\nepochs = 3\nsteps = 5\n')
    (tmp_path / "second.toml").write_text('name = "second"\nbase = "mine.toml"\nepochs = 4\n')
    mine, second = (load_recipe(str(tmp_path / file)) for file in ("mine.toml", "second.toml"))
    assert mine == replace(load_recipe("fork"), name="mine", epochs=3, steps_per_epoch=5)
    assert second == replace(mine, name="second", epochs=4)


@pytest.mark.parametrize(
    ("base", "complaint"),
    [
        ('"forc"', r'mine\.toml: there is no recipe "forc" \(did you mean "fork"'),
        ('"mine.toml"', "the recipe would be its own base"),
        ('"there.toml"', "the recipe would be its own base"),
        ("3", "base = 3: the name of a recipe"),
    ],
)
def test_a_base_that_is_none_is_refused(tmp_path, base, complaint):
    (tmp_path / "mine.toml").write_text(f'name = "mine"\nbase = {base}\n')
    (tmp_path / "there.toml").write_text('base = "mine.toml"\n')
    with pytest.raises(RecipeError, match=complaint):
        load_recipe(str(tmp_path / "mine.toml"))


def test_a_recipe_file_that_is_no_toml_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("name = ")
    with pytest.raises(RecipeError, match=r"mine\.toml: not readable as TOML"):
        load_recipe(str(path))


@pytest.mark.parametrize("read", [parse_recipe, parse_space])
@pytest.mark.parametrize("value", ["1" * 5000, "[" * 99999, "{a=" * 99999])
def test_what_python_cannot_hold_is_refused_with_the_file(read, value):
    with pytest.raises(RecipeError, match=r"mine\.toml: not readable as TOML: "):
        read(f"epochs = {value}", "mine.toml")


def test_a_field_under_two_names_is_refused():
    text = recipe_text(load_recipe("lab-cnn"))
    with pytest.raises(RecipeError, match=r"mine\.toml: steps and steps_per_epoch are the same field"):
        parse_recipe(f"steps = 3\n{text}", "mine.toml")


@pytest.mark.parametrize("entry", ["low = 1\nhigh = nan", "low = 1\nhigh = inf", "low = 0\nhigh = true"])
def test_a_range_to_search_has_finite_ends(entry):
    with pytest.raises(RecipeError, match=r"\[shift\] low and high are numbers"):
        parse_space(f"[shift]\n{entry}", "space.toml")


def test_differences_name_fields_and_values():
    recipe = load_recipe("lab-cnn")
    for settings in (["epochs=3"], "epochs=3"):
        assert differences(override(recipe, settings), recipe) == ["epochs: 3, not 100"]
    assert differences(recipe, recipe) == []


def test_switches_and_names_that_look_like_numbers_are_read():
    recipe = load_recipe("lab-cnn", ["compile=true", "precision=32", 'head="tree"'])
    assert (recipe.compile, recipe.precision, recipe.head) == (True, "32", "tree")


def test_a_warm_up_is_shorter_than_the_training():
    with pytest.raises(RecipeError, match=r"warmup_epochs = 5\.0, below epochs = 5"):
        load_recipe("lab-cnn", ["schedule=cosine", "warmup_epochs=5", "epochs=5"])


def test_without_augmentation_nothing_is_moved():
    assert not load_recipe("lab-cnn").augments
    assert not load_recipe("lab-cnn", ["rotation_probability=0.5"]).augments
    assert load_recipe("lab-cnn", ["shift=1"]).augments


def test_recipes_of_earlier_versions_are_read():
    assert load_recipe("lab-cnn", ["steps=3"]).steps_per_epoch == 3
    text = recipe_text(load_recipe("vgg7", ["ema_decay=0.9", "schedule=cosine", "warmup_epochs=2"]))
    old = {new: old for old, new in OLD_NAMES.items()}
    as_written_then = re.sub(r"^\w+", lambda name: old.get(name[0], name[0]), text, flags=re.MULTILINE)
    assert "average = 0.9" in as_written_then
    assert parse_recipe(as_written_then, "old") == parse_recipe(text, "new")


def test_without_peft_the_other_recipes_are_listed_and_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    done = CliRunner().invoke(app, ["info", "recipes"], catch_exceptions=False)
    assert done.exit_code == 0
    text = re.sub(r"[\s│]+", "", done.output)  # however narrow the terminal is
    assert all(name in text for name in recipe_names())
    assert "40,044,517" in text
    assert "hubblefork[lora]" in text


def test_a_crop_is_pixels_or_a_piece_of_the_sky():
    recipe = override(load_recipe("lab-cnn"), ["crop=30 arcsec"])
    assert recipe.stamps.extent == (30, "arcsec") and parse_recipe(recipe_text(recipe), "here") == recipe
    assert override(recipe, ["crop=212"]).stamps.extent == (212, "pixel")
    for crop in ("0.5", "30 parsec", "true", "40"):
        with pytest.raises(RecipeError, match="crop"):
            override(load_recipe("lab-cnn"), [f"crop={crop}"])


def test_what_was_changed_is_told_of_recipes_of_the_package():
    recipe = load_recipe("lab-cnn", ["epochs=3"])
    assert changed(recipe) == [f"epochs: 3, not {load_recipe('lab-cnn').epochs}"]
    finetuned = replace(recipe, name="lab-cnn-finetuned", description="of my own")
    assert changed(finetuned) == changed(recipe) and changed(load_recipe("encoder:resnet10t")) == []
    assert changed(replace(recipe, name="mine")) == []


CHANGES_OF_LIGHT = ["blur=2", "brightness=1.5", "colour=1.2", "grey=0.1", "noise=0.05"]


@pytest.mark.parametrize("change", CHANGES_OF_LIGHT)
def test_each_change_of_the_light_is_made(change):
    still = ["rotation=0", "flip=0", "shift=0", "zoom=1"]
    assert not load_recipe("lab-cnn", still).augments
    assert load_recipe("lab-cnn", [*still, change]).augments
    assert load_recipe("lab-cnn", [*still, change, "light_probability=0.5"]).augments


@pytest.mark.parametrize("change", CHANGES_OF_LIGHT)
def test_a_change_of_the_light_that_no_view_has_is_refused(change):
    with pytest.raises(RecipeError, match=rf"light_probability = 0\.0, but {change.replace('=', ' = ')}"):
        load_recipe("lab-cnn", [change, "light_probability=0"])
    assert not load_recipe("lab-cnn", ["light_probability=0"]).augments


def test_one_band_has_neither_colour_nor_grey():
    with pytest.raises(RecipeError) as caught:
        load_recipe("lab-cnn", ["bands=1", "colour=1.2", "grey=0.1"])
    assert "colour = 1.2, but bands = 1 has no colour; colour = 1, or bands = 3" in str(caught.value)
    assert "grey = 0.1, but bands = 1 is grey; grey = 0, or bands = 3" in str(caught.value)
    assert load_recipe("lab-cnn", ["bands=1", "blur=2", "brightness=1.5", "noise=1"]).augments
