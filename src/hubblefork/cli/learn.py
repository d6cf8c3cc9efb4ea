"""The commands that train: train, tune, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hubblefork.cli.options import (
    LEARN,
    Data,
    Device,
    Memory,
    Model,
    Precision,
    RecipeName,
    Settings,
    Test,
    Tree,
    Validation,
    Weights,
    settings_of,
)

app = typer.Typer()


@app.command(rich_help_panel=LEARN)
def train(
    data: Data,
    recipe: RecipeName,
    out: Annotated[Path, typer.Option(help="The run folder to write, or to go on with.")],
    folds: Annotated[
        int, typer.Option(help="Cross validation: one run for each of this number of folds.")
    ] = 0,
    salt: Annotated[
        str, typer.Option(help="The name of the folds. Another salt gives other folds.")
    ] = "folds",
    settings: Settings = None,
    weights: Weights = None,
    precision: Precision = "",
    memory: Memory = "",
    device: Device = "",
    devices: Annotated[int, typer.Option(help="Devices (on a CPU: processes) of each node.")] = 1,
    nodes: Annotated[int, typer.Option(help="Nodes, started by torchrun or SLURM.")] = 1,
) -> None:
    """Train a recipe, once or once a fold. Called again after an interruption, it goes on.

    Example: hubblefork train data/ --recipe lab-cnn --out runs/lab-cnn --set epochs=20
    """
    from hubblefork.api import models
    from hubblefork.api.judging import crossval
    from hubblefork.cli.tables import folds_table, show, trained_text
    from hubblefork.cli.terminal import bar
    from hubblefork.network.recipe import load_recipe
    from hubblefork.network.training import is_first

    how: dict[str, Any] = {"settings": settings_of(settings, precision), "weights": weights, "memory": memory}
    if folds:
        chosen = load_recipe(recipe, settings_of(settings, precision))
        hardware = models.hardware(device, memory)
        crossed = crossval(
            data, chosen, out, folds=folds, salt=salt, weights=weights, hardware=hardware, progress=bar
        )
        show(folds_table(crossed))
        typer.echo(out / "out_of_fold.parquet")
        return
    models.train(data, recipe, out, device=device, devices=devices, nodes=nodes, **how, progress=bar)
    if is_first():
        typer.echo(trained_text(out))


@app.command(rich_help_panel=LEARN)
def tune(
    data: Data,
    recipe: RecipeName,
    out: Annotated[
        Path, typer.Option(help="The folder of trials and best recipe. Called again, it goes on.")
    ],
    trials: Annotated[int, typer.Option(help="Trials of the study, of all workers together.")] = 20,
    budget: Annotated[str, typer.Option(help="How long this worker takes trials: 90s, 30min, 2h.")] = "",
    storage: Annotated[
        str, typer.Option(help="URL that workers share: sqlite:///…, postgresql://…, journal:PATH, redis://…")
    ] = "",
    name: Annotated[str, typer.Option(help="The study's name in the storage. Default: the recipe's.")] = "",
    space: Annotated[Path | None, typer.Option(help="TOML table of the search space.")] = None,
    settings: Settings = None,
    weights: Weights = None,
    precision: Precision = "",
    memory: Memory = "",
    device: Device = "",
) -> None:
    """Search better settings of a recipe with Optuna. Several workers can share one study.

    Example: hubblefork tune data/ --recipe vgg7 --trials 20 --budget 2h --out tuning/
    """
    from hubblefork.api import models
    from hubblefork.cli.terminal import bar
    from hubblefork.studies.tuned import write_tuning_page

    study: dict[str, Any] = {
        "trials": trials,
        "budget": budget,
        "storage": storage,
        "name": name,
    }
    how: dict[str, Any] = {"settings": settings_of(settings, precision), "weights": weights, "memory": memory}
    tuned = models.tune(data, recipe, out, space=space, **study, **how, device=device, progress=bar)
    counts = ", ".join(f"{tuned.count(state)} {state}" for state in ("complete", "pruned", "fail", "waiting"))
    best = "" if tuned.best is None else f"; {out / 'best.toml'}: {tuned.best.description}"
    typer.echo(f"{counts}{best}\n{write_tuning_page(tuned, out / 'report')}")


@app.command(rich_help_panel=LEARN)
def finetune(
    model: Model,
    cutouts: Annotated[Path, typer.Argument(help="A zip or tar of images, or a folder of them.")],
    labels: Annotated[Path, typer.Argument(help="CSV or Parquet: galaxy_id, and numbers from 0 to 1.")],
    out: Annotated[Path, typer.Option(help="The run folder to write, or to go on with.")],
    tree: Tree = "",
    columns: Annotated[str, typer.Option(help="The columns to learn: ring,bar. Default: all.")] = "",
    settings: Settings = None,
    test: Test = 20,
    validation: Validation = 20,
    device: Device = "",
) -> None:
    """Teach a trained network a few hundred labels of your own. Called again, it goes on.

    Example: hubblefork finetune runs/lab-cnn cutouts/ labels.csv --out runs/mine
    """
    from hubblefork.api import models
    from hubblefork.cli.tables import trained_text
    from hubblefork.cli.terminal import bar

    if tree and columns:
        raise typer.BadParameter(
            "--columns are single columns; a --tree has its own columns: give one of them"
        )
    names = [name.strip() for name in columns.split(",") if name.strip()]
    how: dict[str, Any] = {
        "settings": settings or [],
        "test": test,
        "validation": validation,
        "device": device,
    }
    models.finetune(model, cutouts, labels, out, tree=tree, columns=names, **how, progress=bar)
    typer.echo(f"{trained_text(out)}\nNext: hubblefork evaluate {out}")
