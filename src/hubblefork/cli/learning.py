"""The commands by which networks learn: train, tune, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import hubblefork as hf
from hubblefork.cli.terminal import (
    LEARN,
    Data,
    Device,
    Layout,
    Memory,
    Missing,
    Precision,
    RecipeName,
    Settings,
    Side,
    Test,
    Tree,
    Validation,
    Weights,
    bar,
    reading_images,
    settings_of,
    show,
    with_side,
)

app = typer.Typer()


@app.command(rich_help_panel=LEARN)
def train(
    data: Data,
    recipe: RecipeName,
    out: Annotated[Path, typer.Option(help="The run folder to write, or to go on with.")],
    folds: Annotated[
        int | None, typer.Option(help="Cross validation: one run for each of this number of folds.")
    ] = None,
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
    from hubblefork.api import training
    from hubblefork.cli.tables import trained_text
    from hubblefork.network.training import is_first
    from hubblefork.pages.tables import folds_table

    changes = settings_of(settings, precision)
    if folds is not None:
        if (devices, nodes) != (1, 1):
            raise typer.BadParameter("--folds trains on one device: leave out --devices and --nodes")
        hardware, chosen = training.hardware(device, memory), training.recipe_of(recipe, changes)
        crossed = training.crossval(
            data, chosen, out, folds=folds, salt=salt, weights=weights, hardware=hardware, progress=bar
        )
        show(folds_table(crossed))
        typer.echo(out / "out_of_fold.parquet")
        return
    hf.train(
        data,
        recipe,
        out,
        settings=changes,
        weights=weights,
        memory=memory,
        device=device,
        devices=devices,
        nodes=nodes,
        progress=bar,
    )
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
    from hubblefork.studies.tuned import write_tuning_page

    tuned = hf.tune(
        data,
        recipe,
        out,
        trials=trials,
        budget=budget,
        storage=storage,
        name=name,
        space=space,
        settings=settings_of(settings, precision),
        weights=weights,
        memory=memory,
        device=device,
        progress=bar,
    )
    counts = ", ".join(f"{tuned.count(state)} {state}" for state in ("complete", "pruned", "fail", "waiting"))
    best = "" if tuned.best is None else f"; {out / 'best.toml'}: {tuned.best.description}"
    typer.echo(f"{counts}{best}\n{write_tuning_page(tuned, out / 'report')}")


@app.command(rich_help_panel=LEARN)
@reading_images
def finetune(
    model: Annotated[
        Path, typer.Argument(help="A run folder, a .safetensors file, `fork`, or encoder:NAME of timm.")
    ],
    cutouts: Annotated[Path, typer.Argument(help="A zip or tar of images, or a folder of them.")],
    labels: Annotated[Path, typer.Argument(help="A table: galaxy_id, and your labels.")],
    out: Annotated[Path, typer.Option(help="The run folder to write, or to go on with.")],
    tree: Tree = "",
    layout: Layout = "",
    reading: Any = None,
    side: Side = 0,
    columns: Annotated[
        str, typer.Option(help="Columns of fractions, or yes and no, to learn: ring,bar. Default: all.")
    ] = "",
    classes: Annotated[str, typer.Option(help="A column of classes to learn: texts or integers.")] = "",
    number: Annotated[str, typer.Option(help="A column with a number to learn, of any range.")] = "",
    unit: Annotated[str, typer.Option(help="The unit of --number: dex, mag, km/s.")] = "",
    missing: Missing = None,
    unfreeze: Annotated[
        str, typer.Option(help="What is trained: all, head, or the head and this number of stages before it.")
    ] = "all",
    layer_decay: Annotated[
        float, typer.Option(help="Each layer has this times the learning rate of the next.")
    ] = 1.0,
    settings: Settings = None,
    test: Test = 20,
    validation: Validation = 20,
    device: Device = "",
) -> None:
    """Teach a trained network a few hundred labels of your own. Called again, it goes on.

    Example: hubblefork finetune runs/lab-cnn cutouts/ labels.csv --out runs/mine
    """
    from hubblefork.cli.tables import trained_text

    hf.finetune(
        model,
        cutouts,
        labels,
        out,
        tree=tree,
        columns=[name.strip() for name in columns.split(",") if name.strip()],
        classes=classes,
        number=number,
        unit=unit,
        missing=missing or [],
        layout=layout,
        survey=with_side(reading, side),
        settings=[f"unfreeze={unfreeze}", f"layer_decay={layer_decay}", *(settings or [])],
        test=test,
        validation=validation,
        device=device,
        progress=bar,
    )
    typer.echo(f"{trained_text(out)}\nNext: hubblefork evaluate {out}")
