"""The list of recipes: every one of them, also where an optional package is missing."""

import re
import sys

from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.network.recipe import recipe_names


def test_without_peft_the_other_recipes_are_listed_and_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    done = CliRunner().invoke(app, ["recipes"], catch_exceptions=False)
    assert done.exit_code == 0
    text = re.sub(r"[\s│]+", "", done.output)  # however narrow the terminal is
    assert all(name in text for name in recipe_names())
    assert "40,044,517" in text
    assert "hubblefork[lora]" in text
