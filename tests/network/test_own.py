"""Networks of one's own: registered by a file that a person names, and by nothing else."""

import pytest
import torch
from typer.testing import CliRunner

from hubblefork.cli import app
from hubblefork.errors import RecipeError
from hubblefork.network.architectures import build
from hubblefork.network.architectures.encoder import run_networks

FILE = """
from timm.models import register_model
from torch import nn


class Mean(nn.Module):
    num_features = 3

    def forward(self, views):
        return views.mean((2, 3))


@register_model
def {name}(pretrained=False, **_):
    return Mean()
"""


def test_a_file_registers_an_encoder(tmp_path):
    views = torch.rand(2, 3, 32, 32)
    with pytest.raises(RecipeError, match="One of your own: hubblefork --networks"):
        build("encoder:mean_of_a_file", input_size=32, outputs=37)
    (tmp_path / "nets.py").write_text(FILE.format(name="mean_of_a_file"))
    run_networks(tmp_path / "nets.py")
    network = build("encoder:mean_of_a_file", input_size=32, outputs=37)
    assert network(views).shape == (len(views), 37)
    assert (network[0](views) == views.mean((2, 3))).all()  # neither shifted nor scaled


def test_the_command_line_runs_it(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(FILE.format(name="mean_by_option") + "print('was run')")
    done = CliRunner().invoke(app, ["--networks", str(tmp_path / "nets.py"), "info"], catch_exceptions=False)
    assert "was run" in done.output
    assert build("encoder:mean_by_option", input_size=32, outputs=37)
    monkeypatch.setenv("HUBBLEFORK_NETWORKS", str(tmp_path / "nets.py"))
    assert "was run" in CliRunner().invoke(app, ["info"], catch_exceptions=False).output


def test_a_file_that_fails_says_where(tmp_path):
    (tmp_path / "bad.py").write_text("import math\n\nmath.sqrt(-1)\n")
    with pytest.raises(RecipeError, match=r"bad\.py, line 3: ValueError: "):
        run_networks(tmp_path / "bad.py")
    with pytest.raises(RecipeError, match=r"nope\.py: there is no Python file"):
        run_networks(tmp_path / "nope.py")
