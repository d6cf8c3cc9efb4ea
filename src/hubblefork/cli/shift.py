"""`hubblefork shift`: is a survey like the one that a network learned from?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hubblefork.cli.options import Device


def shift(
    run: Annotated[Path, typer.Argument(help="A run folder, as written by `hubblefork train`.")],
    images: Annotated[Path, typer.Argument(help="A zip or tar of images, or a folder of them.")],
    out: Annotated[Path, typer.Option(help="The catalogue of scores to write: .parquet, .csv, .fits, .vot.")],
    device: Device = "",
) -> None:
    """Score how unlike the training galaxies each image is, and warn where the survey is another one.

    Example: hubblefork shift runs/lab-cnn images_test_rev1.zip --out shift.parquet
    """
    from hubblefork.cli.bars import bar
    from hubblefork.studies.shift import judge_survey

    found = judge_survey(run, images, out, device=device, progress=bar)
    typer.echo(
        f"{out}: {found.galaxies} galaxies against {found.held_out} held-out ones of the training survey: "
        f"Kolmogorov–Smirnov distance {found.distance:.3f}, p = {found.p_value:.2g}; "
        f"{found.beyond:.1%} lie beyond the held-out ones' 95th percentile"
    )
    if found.shifted:
        typer.secho(
            f"warning: unlike the training survey (p < {found.chance:g}): completeness and false-positive "
            "rate measured there need not hold here; label some of these galaxies and calibrate on them",
            fg="yellow",
            err=True,
        )
