"""The verbs `finetune` (a trained network, and labels of one's own) and `distil` (labels of networks)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubblefork.cli.options import Data, Device, Settings, machine_of


def finetune(
    run: Annotated[Path, typer.Argument(help="A run folder, a .safetensors file, or fork: ours.")],
    cutouts: Annotated[Path, typer.Argument(help="A zip or tar of images, or a folder of them.")],
    labels: Annotated[Path, typer.Argument(help="CSV or Parquet: galaxy_id, and numbers from 0 to 1.")],
    out: Annotated[Path, typer.Option(help="The run folder to write, or to go on with.")],
    tree: Annotated[str, typer.Option(help="The decision tree of the labels: a name, or a .toml file.")] = "",
    columns: Annotated[
        str, typer.Option(help="The columns to learn, each by itself: ring,bar (default: all).")
    ] = "",
    settings: Settings = None,
    test: Annotated[int, typer.Option(help="Per cent of the labelled galaxies to report on.")] = 20,
    validation: Annotated[int, typer.Option(help="Per cent of the labelled galaxies to choose by.")] = 20,
    device: Device = "",
) -> None:
    """Teach a trained network a few hundred labels of your own; called again it goes on.

    Example: hubblefork finetune runs/lab-cnn cutouts/ labels.csv --out runs/mine
    """
    from hubblefork.bars import bar
    from hubblefork.network.finetuning import SALT
    from hubblefork.network.finetuning import finetune as teach
    from hubblefork.sky.split import Split
    from hubblefork.tables import trained_text
    from hubblefork.zoo import load_tree

    if tree and columns:
        raise typer.BadParameter("--columns are plain ones, each by itself; a --tree has its own")
    teach(
        run,
        cutouts,
        labels,
        out,
        tree=load_tree(tree) if tree else None,
        columns=[name.strip() for name in columns.split(",") if name.strip()],
        settings=settings or [],
        split=Split(SALT, test, validation),
        machine=machine_of(device, ""),
        progress=bar,
    )
    typer.echo(trained_text(out))
    typer.echo(f"Next: hubblefork evaluate {out}")


def distil(
    data: Data,
    teachers: Annotated[list[Path], typer.Argument(help="Run folders, trained on the same split.")],
    out: Annotated[Path, typer.Option(help="The data folder to write.")],
    weight: Annotated[float, typer.Option(help="The teachers' part of each label.")] = 0.5,
    views: Annotated[int, typer.Option(help="Views of each galaxy that a teacher sees: 1, or even.")] = 8,
    device: Device = "",
) -> None:
    """Mix what trained networks say of the training galaxies into their labels; then train on these.

    Example: hubblefork distil data/ runs/fork-0 runs/fork-1 runs/fork-2 --out distilled/
    """
    from hubblefork.bars import bar
    from hubblefork.network.distilling import distil as write

    found = write(data, teachers, out, weight=weight, views=views, device=device, progress=bar)
    typer.echo(
        f"{out}: labels of {found.mixed:,} training galaxies mixed, of them {found.completed:,} completed, "
        f"and {found.unlabelled:,} that had none; who chooses and who judges keep theirs"
    )
    typer.echo(f"Next: hubblefork train {out} --recipe fork --out runs/distilled")
