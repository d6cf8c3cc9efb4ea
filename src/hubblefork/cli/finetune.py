"""The verb `finetune`: a trained network, and labels of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubblefork.cli.options import Device, Settings, hardware_of


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
    from hubblefork.cli.bars import bar
    from hubblefork.cli.tables import trained_text
    from hubblefork.data.split import Split
    from hubblefork.network.finetuning import SALT
    from hubblefork.network.finetuning import finetune as teach
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
        hardware=hardware_of(device, ""),
        progress=bar,
    )
    typer.echo(trained_text(out))
    typer.echo(f"Next: hubblefork evaluate {out}")
