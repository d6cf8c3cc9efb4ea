"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DATA, LEARN, USE, TELL = "Data", "Learn", "Use", "Tell"
"""The panels of the help."""

Data = Annotated[Path, typer.Argument(help="A data folder, written by `hubblefork ingest`.")]
Run = Annotated[Path, typer.Argument(help="A run folder, written by `hubblefork train`.")]
Model = Annotated[Path, typer.Argument(help="A run folder, a .safetensors file, or `fork`.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps. Default: the best one that is there.")]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="A recipe's name, encoder:NAME of timm, or a .toml file.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting of the recipe: key=value.")
]
Weights = Annotated[
    Path | None, typer.Option(help="A .safetensors file of published weights to start the encoder from.")
]
Precision = Annotated[str, typer.Option(help="auto, 32, bf16 or fp16. Short for --set precision=….")]
Memory = Annotated[str, typer.Option(help="Stream stamps from the disk if they take more than this: 2GB.")]
Views = Annotated[int, typer.Option(help="Test-time augmentation: average over this number of views.")]
Tree = Annotated[str, typer.Option(help="The decision tree of the labels: a name, or a .toml file.")]
Salt = Annotated[str, typer.Option(help="The name of the split. Another salt gives another split.")]
Test = Annotated[int, typer.Option(help="Per cent of the galaxies in the test set.")]
Validation = Annotated[int, typer.Option(help="Per cent of the galaxies in the validation set.")]
JudgeOn = Annotated[
    Path | None, typer.Option(help="A file of ids. All other galaxies are in the training set.")
]
OnlyReport = Annotated[
    bool, typer.Option("--only-report", help="Train nothing. Write the page from what is there.")
]
Record = Annotated[
    Path | None, typer.Option(help="A folder to copy figures and numbers to, without images of galaxies.")
]


def settings_of(settings: list[str] | None, precision: str) -> list[str]:
    """Return the recipe's settings with the precision among them."""
    return [*(settings or []), *([f"precision={precision}"] if precision else [])]
