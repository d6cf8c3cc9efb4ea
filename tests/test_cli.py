"""The command line: quick help, one-line errors, every verb documented."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hubblefork import cli
from hubblefork.errors import RecipeError

ROOT = Path(__file__).parents[1]
VERBS = sorted(command.name or command.callback.__name__ for command in cli.app.registered_commands)


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from hubblefork.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'numpy', 'pyarrow', 'astropy', 'galsim'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_does_and_stands_in_the_tour(verb):
    command = next(c for c in cli.app.registered_commands if (c.name or c.callback.__name__) == verb)
    assert command.callback.__doc__.strip()
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    assert f"hubblefork {verb}" in tour


def test_a_mistake_is_one_line_and_status_1(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hubblefork", "train", "nowhere", "--recipe", "lab-cn", "--out", "run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 1
    assert len(said.splitlines()) == 1
    assert said.startswith('RecipeError: there is no recipe "lab-cn" (did you mean "lab-cnn"?)')


def test_an_interruption_says_that_the_same_command_goes_on(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert "goes on where it stopped" in capsys.readouterr().err


def test_a_fault_of_ours_is_not_dressed_up(monkeypatch):
    def broken():
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_the_tree_is_drawn_with_every_question_and_answer(tree):
    drawn = " ".join(run("tree").stdout.split())
    for question in tree.questions:
        assert question.task in drawn
    for answer in tree.answers:
        assert answer.column in drawn


def test_recipes_are_listed_with_both_counts():
    shown = run("recipes").stdout
    assert "1,652,389" in shown and "1,652,453" in shown


def test_info_names_versions_and_device():
    shown = run("info").stdout
    for word in ("hubblefork", "torch", "device", "precision", "threads"):
        assert word in shown


def test_settings_reach_the_recipe(tmp_path):
    failed = run("train", tmp_path, "--recipe", "lab-cnn", "--out", tmp_path / "run", "--set", "epoch=3")
    assert isinstance(failed.exception, RecipeError)
    assert 'no field "epoch"' in str(failed.exception)
