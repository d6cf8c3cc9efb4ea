"""The verbs that train many times, `tune` and `crossval`; and `merge`, one file of a run's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubblefork.cli.options import (
    Data,
    Device,
    Memory,
    PrecisionName,
    RecipeName,
    Settings,
    Weights,
    hardware_of,
    recipe_of,
)
from hubblefork.io import seconds


def tune(
    data: Data,
    recipe: RecipeName,
    out: Annotated[Path, typer.Option(help="The folder of trials and best recipe, to begin or to go on.")],
    trials: Annotated[int, typer.Option(help="How many trials the study gets, of all workers.")] = 20,
    budget: Annotated[str, typer.Option(help="How long this worker takes trials: 90s, 30min, 2h.")] = "",
    storage: Annotated[
        str, typer.Option(help="URL that workers share: sqlite:///…, postgresql://…, journal:PATH, redis://…")
    ] = "",
    name: Annotated[str, typer.Option(help="The study's name in the storage; the recipe's by itself.")] = "",
    space: Annotated[
        Path | None, typer.Option(help="TOML table of what to search; see network/space.toml.")
    ] = None,
    settings: Settings = None,
    weights: Weights = None,
    precision: PrecisionName = "",
    memory: Memory = "",
    device: Device = "",
) -> None:
    """Search better settings of a recipe (Optuna); run it several times at once to work on one study.

    Example: hubblefork tune data/ --recipe vgg7 --trials 20 --budget 2h --out tuning/
    """
    from hubblefork.cli.bars import bar
    from hubblefork.network.recipe import load_space
    from hubblefork.network.tuning import tune as run
    from hubblefork.studies.tuned import write_tuning_page

    chosen = recipe_of(recipe, settings, precision)
    found = run(
        data,
        chosen,
        out,
        space=load_space(chosen, space),
        trials=trials,
        seconds=seconds(budget) if budget else None,
        storage=storage,
        name=name,
        weights=weights,
        hardware=hardware_of(device, memory),
        progress=bar,
    )
    page = write_tuning_page(found, out / "report")
    done = ", ".join(f"{found.count(state)} {state}" for state in ("complete", "pruned", "fail", "waiting"))
    best = "" if found.best is None else f"; {out / 'best.toml'}: {found.best.description}"
    typer.echo(f"{done}{best}\n{page}")


def crossval(
    data: Data,
    recipe: RecipeName,
    out: Annotated[Path, typer.Option(help="The folder of the folds' runs, to begin or to go on.")],
    folds: Annotated[int, typer.Option(help="How many folds.")] = 5,
    salt: Annotated[str, typer.Option(help="Names the folds: another salt, other folds.")] = "folds",
    settings: Settings = None,
    weights: Weights = None,
    precision: PrecisionName = "",
    memory: Memory = "",
    device: Device = "",
) -> None:
    """Train once for each fold and judge every galaxy by the network that did not see it; test stays out.

    Example: hubblefork crossval data/ --recipe vgg7 --folds 5 --out folds/
    """
    from hubblefork.api.folds import crossval as run
    from hubblefork.cli.bars import bar
    from hubblefork.cli.tables import folds_table, show

    hardware = hardware_of(device, memory)
    chosen = recipe_of(recipe, settings, precision)
    found = run(data, chosen, out, folds=folds, salt=salt, weights=weights, hardware=hardware, progress=bar)
    show(folds_table(found))
    typer.echo(f"{out / 'out_of_fold.parquet'}: {found['galaxies']} galaxies")


def merge(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    half: Annotated[bool, typer.Option("--half", help="In half precision: half the bytes.")] = False,
) -> None:
    """One file of weights that needs no other: adapters added to what they stand beside; smaller with --half.

    Example: hubblefork merge runs/resnet50-lora --out resnet50-lora.safetensors
    """
    from hubblefork.network.weights import merge as merge_run

    typer.echo(merge_run(run, out, half=half))
