"""Options and arguments that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hubblefork.network.device import Hardware
    from hubblefork.network.recipe import Recipe

Data = Annotated[Path, typer.Argument(help="A data folder, as written by `hubblefork ingest`.")]
Run = Annotated[Path, typer.Argument(help="A run folder, as written by `hubblefork train`.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps; chosen by itself when not given.")]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="A recipe's name, encoder:NAME of timm, or a .toml file.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Override a field of the recipe: key=value.")
]
Weights = Annotated[
    Path | None, typer.Option(help="A .safetensors file of published weights that the encoder starts from.")
]
PrecisionName = Annotated[
    str, typer.Option("--precision", help="auto, 32, bf16 or fp16: short for --set precision=….")
]
Memory = Annotated[
    str, typer.Option(help="Stamps that take more than this (2GB) are streamed from the disk.")
]
StudyWeights = Annotated[
    Path | None, typer.Option("--weights", help="A .safetensors file that the ResNets start from.")
]
OnlyReport = Annotated[
    bool, typer.Option("--only-report", help="Train nothing: the page from what is there.")
]
Record = Annotated[
    Path | None, typer.Option(help="A folder to copy figures and numbers to, but no galaxies.")
]


def recipe_of(name: str, settings: list[str] | None, precision: str) -> Recipe:
    """Return the recipe that the options name. Raises RecipeError."""
    from hubblefork.network.recipe import load_recipe

    return load_recipe(name, [*(settings or []), *([f"precision={precision}"] if precision else [])])


def hardware_of(device: str, memory: str, *, devices: int = 1, nodes: int = 1) -> Hardware:
    """Return the hardware that the options name. Raises RecipeError for an amount that is none."""
    from hubblefork.io import bytes_of
    from hubblefork.network.device import Hardware

    return Hardware(device, devices, nodes, bytes_of(memory) if memory else None)
