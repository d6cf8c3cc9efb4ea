"""The command line: quick help, one-line errors, every command documented."""

import io
import os
import re
import subprocess
import sys
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Annotated, get_args, get_origin

import numpy as np
import pytest
import typer
from astropy.io import fits
from typer.testing import CliRunner

from hubblefork import __version__, cli
from hubblefork.errors import RecipeError
from hubblefork.zoo import tree_names

ROOT = Path(__file__).parents[2]
COMMANDS = typer.main.get_command(cli.app).commands


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


def test_predicting_loads_no_statistics():
    code = (
        "import sys, hubblefork.api.predictions, hubblefork.cli.tables\n"
        "print(sorted({'torch', 'sklearn', 'scipy.stats', 'matplotlib', 'astropy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_commands_are_a_dozen_and_a_few():
    assert set(COMMANDS) == {
        *("fetch", "ingest", "split", "mock", "train", "tune", "finetune"),
        *("classify", "predict", "evaluate", "mergers", "catalogue", "export", "zooniverse"),
        *("report", "study", "demo", "info", "gallery"),
    }
    assert all(command.rich_help_panel in ("Data", "Learn", "Use", "Tell") for command in COMMANDS.values())


@pytest.mark.parametrize("command", ["ingest", "finetune", "mergers"])
def test_whoever_reads_published_tables_takes_a_layout_of_them(tmp_path, command):
    (tmp_path / "a.csv").write_text("id_str,ring_yes,ring_no,ring_total-votes\nJ1,3,4,7\n")
    (tmp_path / "J1.jpg").write_bytes(b"not looked at")
    words = {
        "ingest": (tmp_path, "--out", tmp_path / "data"),
        "finetune": ("fork", tmp_path, tmp_path / "a.csv", "--out", tmp_path / "run"),
        "mergers": (tmp_path / "a.csv", "--tree", "gz_rings", "--answer", "ring_yes"),
    }[command]
    done = run(command, *words, "--layout", "dr7")
    assert 'it has no layout "dr7": it has counts' in str(done.exception)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_a_place_in_the_tour(name):
    assert COMMANDS[name].help.strip()
    assert f"hubblefork {name}" in (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")


def test_one_option_has_one_meaning():
    """--weights is a start file everywhere, --labels a table, …: an option has one type in all commands."""
    types = {}
    for command in _all_commands(cli.app):
        for parameter in signature(command, eval_str=True).parameters.values():
            annotated = parameter.annotation
            kind, option = get_args(annotated) if get_origin(annotated) is Annotated else (None, None)
            if isinstance(option, typer.models.OptionInfo):
                name = option.param_decls[0] if option.param_decls else parameter.name
                (plain,) = re.findall(r"Path|int|float|str|bool", str(kind))
                types.setdefault(name, {})[command.__qualname__] = plain
    mixed = {name: kinds for name, kinds in types.items() if len(set(kinds.values())) > 1}
    assert set(mixed) == {"seeds"}  # of `study compare` also RECIPE:N


def _all_commands(app):
    for group in app.registered_groups:
        yield from _all_commands(group.typer_instance)
    yield from (command.callback for command in app.registered_commands)


def test_version_is_shown():
    shown = run("--version")
    assert shown.exit_code == 0 and shown.stdout.strip() == f"hubblefork {__version__}"


def test_quiet_shows_no_bars(tmp_path):
    words = ("mock", tmp_path / "sky", "--galaxies", 4)
    assert "mock sky" in run(*words).stderr
    assert run("-q", *words).stderr == ""


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
    drawn = " ".join(run("info", "tree", tree.name).stdout.split())
    for question in tree.questions:
        assert question.task in drawn
    for answer in tree.answers:
        assert answer.column in drawn


def test_trees_are_listed_and_one_is_drawn_into_a_file(tmp_path):
    listed = run("info", "tree").stdout
    assert all(name in listed for name in tree_names())
    assert run("info", "tree", "gz_rings", "--out", tmp_path / "rings.svg").exit_code == 0
    assert b"<svg" in (tmp_path / "rings.svg").read_bytes()
    assert run("info", "tree", "--out", tmp_path / "all.svg").exit_code == 2


def test_an_answer_that_opens_several_questions_names_each():
    drawn = " ".join(re.sub("[│├└─]", " ", run("info", "tree", "gz_decals_5").stdout).split())
    assert "smooth_or_featured_featured_or_disk → T11 → T2 Could this be a disk" in drawn
    assert "disk_edge_on_no → T5 Is there any sign" in drawn


def test_recipes_are_listed_with_both_counts():
    shown = run("info", "recipes").stdout
    assert "1,652,389" in shown and "1,652,453" in shown


def test_info_names_versions_and_device():
    shown = run("info").stdout
    for word in ("hubblefork", "torch", "device", "precision", "cores", "predicts by"):
        assert word in shown


def test_settings_reach_the_recipe(tmp_path):
    failed = run("train", tmp_path, "--recipe", "lab-cnn", "--out", tmp_path / "run", "--set", "epoch=3")
    assert isinstance(failed.exception, RecipeError)
    assert 'no field "epoch"' in str(failed.exception)


def output_of(monkeypatch, stream, *arguments):
    """Run the command with a stream for its output; return the exit code."""
    monkeypatch.setattr(sys, "argv", ["hubblefork", *arguments])
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
@pytest.mark.parametrize("command", ["info tree galaxy_zoo_2", "info recipes", "study lab --help"])
def test_what_an_encoding_does_not_have_is_replaced(monkeypatch, encoding, command):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    assert output_of(monkeypatch, stream, *command.split()) == 0
    assert stream.buffer.getvalue().decode(encoding)


def test_an_output_that_is_full_is_one_line(monkeypatch, capsys):
    with suppress(OSError), Path("/dev/full").open("w") as full:
        assert output_of(monkeypatch, full, "info", "tree") == 1
    said = capsys.readouterr().err
    assert said == "DiskError: the output cannot be written: No space left on device\n"


def test_a_name_that_the_system_refuses_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hubblefork", "predict", "fork", "a" * 300, "--out", "b.csv"])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("DiskError: aaa") and "File name too long; give another name" in line


def test_a_closed_pipe_is_silent(monkeypatch, capsys):
    read, write = os.pipe()
    os.close(read)
    assert output_of(monkeypatch, os.fdopen(write, "w"), "info", "tree") == 1
    assert not capsys.readouterr().err


def test_brackets_in_a_tree_are_drawn():
    from io import StringIO

    from rich.console import Console

    from hubblefork.cli.tables import drawn_tree
    from hubblefork.zoo import plain_columns

    console = Console(file=StringIO(), width=100)
    console.print(drawn_tree(plain_columns(["ring[red]"])))
    assert console.file.getvalue().count("ring[red]") >= 2


def test_every_command_that_reads_images_has_the_options_that_say_how(tmp_path):
    light = 5 * np.exp(-((np.mgrid[:424, :424] - 211.5) ** 2).sum(axis=0) / 4000).astype(np.float32)
    fits.PrimaryHDU(np.stack([light, light, light])).writeto(tmp_path / "a.fits")
    words = ("classify", tmp_path / "a.fits", "--views", 1, "--survey", "legacy")
    refused, drawn = run(*words), run(*words, "--bands", "g,r,z")
    assert refused.exit_code == 1 and "bands without names" in refused.stderr
    assert drawn.exit_code == 0 and "smooth" in drawn.stdout
