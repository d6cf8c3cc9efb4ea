"""The page of a tuning says what the best trial changed, in numbers that one reads."""

import re
from dataclasses import replace

from hubblefork.network.recipe import load_recipe
from hubblefork.network.tuning import TuningResult
from hubblefork.studies.tuned import write_tuning_page


def test_the_settings_of_the_best_trial_have_sensible_digits(tmp_path):
    recipe = load_recipe("vgg7")
    best = replace(recipe, name="vgg7-tuned", dropout=0.21940729556376698, learning_rate=2.7721108514e-05)
    row = {"number": 0, "state": "complete", "value": 0.1, "last": 0.1, "epochs": 3, "seconds": 2.0}
    row |= {"failure": None, "learning_rate": best.learning_rate}
    tuned = TuningResult("vgg7", recipe, [row], {}, best)
    page = write_tuning_page(tuned, tmp_path).read_text(encoding="utf-8")
    assert "dropout: 0.2194, not 0.1\n" in page
    assert "learning_rate: 2.772e-05, not 0.001" in page
    assert "name: " not in page


def test_a_trial_stands_beside_the_settings_that_matter_most(tmp_path):
    fields = ("dropout", "zoom", "shift", "batch_size", "hidden_units", "hidden_layers", "rotation", "epochs")
    row = {"number": 0, "state": "complete", "value": 0.1, "last": 0.1, "epochs": 3, "seconds": 2.0}
    row |= {"failure": None, **dict.fromkeys(fields, 1), "learning_rate": 0.01}
    tuned = TuningResult("vgg7", load_recipe("vgg7"), [row], {"dropout": 0.3, "learning_rate": 0.7}, None)
    page = write_tuning_page(tuned, tmp_path).read_text(encoding="utf-8")
    heads = re.findall('<th scope="col">(.*?)</th>', page)
    assert heads[:6] == ["trial", "state", "validation RMSE", "epochs", "learning rate", "dropout"]
    assert len(heads) == 11 and "trials.csv have the other settings" in page
