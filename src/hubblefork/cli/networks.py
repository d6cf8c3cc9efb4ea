"""The commands that use networks: classify, predict, evaluate, mergers, export."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

import hubblefork as hf
from hubblefork.cli.terminal import (
    USE,
    DataNow,
    Device,
    Enlarge,
    Field,
    Layout,
    Missing,
    Model,
    Overwrite,
    Tree,
    Views,
    bar,
    reading_images,
    show,
    warn,
)

app = typer.Typer()

CalibrateOn = Annotated[
    Path | None, typer.Option(help="A run or a catalogue of predictions with labelled galaxies.")
]
CalibrationLabels = Annotated[
    Path | None, typer.Option(help="Labels of the calibration galaxies. Default: those of the run's data.")
]


@app.command(rich_help_panel=USE)
@reading_images
def classify(
    images: Annotated[list[str], typer.Argument(help="Image files, folders, zips or tars of them; URLs.")],
    run: Annotated[
        Path | None, typer.Option(help="A run folder or .safetensors file instead of `fork`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write Kaggle's columns to a .csv, .parquet, .fits or .vot file.")
    ] = None,
    field: Field = None,
    enlarge: Enlarge = False,
    reading: Any = None,
    overwrite: Overwrite = False,
    views: Views = 16,
    device: Device = "",
) -> None:
    """Draw the decision tree of each galaxy with its vote fractions, by the embedded network.

    Example: hubblefork classify my_galaxy.jpg
    """
    from hubblefork.api import predictions

    model = run or "fork"
    how: dict[str, Any] = {"views": views, "field": field, "enlarge": enlarge, "survey": reading}
    if out is not None:
        from hubblefork.cli.tables import written_text

        made = predictions.write_predictions(
            model,
            images,
            out,
            columns="kaggle",
            overwrite=overwrite,
            device=device,
            progress=bar,
            **how,
        )
        for _, reason in made.rejects:
            typer.secho(reason, fg="red", err=True)
        typer.echo(written_text(out, made.galaxies, len(made.rejects)))
        warn(*made.remarks)
        return
    classified = predictions.classify_all(images, model, device=device, progress=bar, **how)
    for _, reason in classified.rejects:
        typer.secho(reason, fg="red", err=True)
    for galaxy in classified.galaxies:
        typer.echo(f"{galaxy}\n")
    for remark in classified.remarks:
        typer.secho(remark, fg="yellow", err=True)
    if not classified.galaxies:
        raise typer.Exit(1)


@app.command(rich_help_panel=USE)
@reading_images
def predict(
    model: Model,
    sources: Annotated[
        list[str], typer.Argument(help="Images, folders, archives, tables of them, URLs, or one data folder.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="The catalogue to write: .parquet, .csv, .fits or .vot. Without them a folder."),
    ],
    columns: Annotated[
        str, typer.Option(help="How columns are spelled: joint, conditional, friendly, advanced or kaggle.")
    ] = "joint",
    field: Field = None,
    enlarge: Enlarge = False,
    reading: Any = None,
    overwrite: Overwrite = False,
    views: Views = 1,
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="Another run to average with. May be repeated.")
    ] = None,
    intervals: Annotated[
        float | None, typer.Option(help="Add <answer>_low and _high with this coverage: 0.68, 0.9 or 0.95.")
    ] = None,
    device: Device = "",
    runtime: Annotated[
        str, typer.Option(help="onnxruntime, openvino or torch. Default: the fastest that is installed.")
    ] = "",
    shard: Annotated[
        str, typer.Option(help="One share of a folder's catalogue: 3/64 is the third of 64.")
    ] = "",
    engine: Annotated[str, typer.Option(help="ray: the workers of a Ray cluster write a folder.")] = "",
    address: Annotated[
        str, typer.Option(help="The cluster's address: auto for the running one. Default: start one here.")
    ] = "",
) -> None:
    """Predict the vote fractions of every image into a catalogue. Called again, it goes on.

    Example: hubblefork predict runs/lab-cnn images_test_rev1.zip --out predictions.parquet
    hubblefork predict fork tiles/*.tar --views 16 --out catalogue.parquet
    hubblefork predict fork tiles/*.tar --shard 3/64 --out catalogue/
    """
    from hubblefork.api.predictions import write_predictions
    from hubblefork.cli.tables import written_text

    made = write_predictions(
        model,
        sources,
        out,
        views=views,
        interval=intervals,
        others=others or [],
        columns=columns,
        field=field,
        enlarge=enlarge,
        survey=reading,
        overwrite=overwrite,
        device=device,
        runtime=runtime,
        shard=shard,
        engine=engine,
        address=address,
        progress=bar,
    )
    typer.echo(written_text(made.path, made.galaxies, len(made.rejects)))
    warn(*made.remarks)


@app.command(rich_help_panel=USE)
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder. With --baselines also a data folder.")],
    part: Annotated[str, typer.Option(help="test or validation. Default: test if the split has one.")] = "",
    baselines: Annotated[bool, typer.Option("--baselines", help="Only the baselines.")] = False,
    views: Views = 1,
    shift: Annotated[
        Path | None,
        typer.Option(help="Score how unlike the training galaxies these images are (an archive or folder)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The catalogue of the scores of --shift.")] = None,
    data: DataNow = None,
    device: Device = "",
) -> None:
    """Measure RMSE, agreement and coverage on galaxies outside the training set, beside the baselines.

    Example: hubblefork evaluate runs/lab-cnn
    hubblefork evaluate runs/lab-cnn --shift images_test_rev1.zip --out shift.parquet
    """
    from hubblefork.api import judging
    from hubblefork.cli.results import evaluation_tables, totals_table
    from hubblefork.data.folders import RunFolder

    if (shift is None) != (out is None):
        raise typer.BadParameter("--shift and --out go together: images, and the catalogue of their scores")
    if shift is not None and out is not None:
        _shift(run, shift, out, data, device)
    elif baselines:
        show(totals_table(judging.evaluate_baselines(data or run, part)))
    else:
        show(*evaluation_tables(hf.evaluate(run, part, data=data, views=views, device=device, progress=bar)))
        if not RunFolder(run).is_finished():
            warn(f"{run}: its training has not finished; these are the errors of its best epoch so far")


def _shift(run: Path, images: Path, out: Path, data: Path | None, device: str) -> None:
    from hubblefork.studies.shift import judge_survey

    test = judge_survey(run, images, out, data=data, device=device, progress=bar)
    typer.echo(
        f"{out}: {test.galaxies} galaxies against {test.held_out} held-out galaxies of the training survey: "
        f"Kolmogorov–Smirnov distance {test.distance:.3f}, p = {test.p_value:.2g}; "
        f"{test.beyond:.1%} lie beyond the 95th percentile of the held-out galaxies"
    )
    if test.shifted:
        warn(
            f"unlike the training survey (p < {test.chance:g}). Its completeness and false-positive "
            "rate need not hold here. Label some of these galaxies and calibrate on them"
        )


@app.command(rich_help_panel=USE)
def mergers(
    catalogue: Annotated[Path, typer.Argument(help="A catalogue of predicted or of volunteers' fractions.")],
    answer: Annotated[str, typer.Option(help="The answer to count.")] = "merger",
    threshold: Annotated[float, typer.Option(help="Count galaxies with at least this fraction.")] = 0.3,
    predicted_threshold: Annotated[
        float | None, typer.Option(help="Another threshold for predictions. Votes keep --threshold.")
    ] = None,
    where: Annotated[
        str, typer.Option(help='An expression to count by: "spiral > 0.5 & barred > 0.3".')
    ] = "",
    calibrate_on: CalibrateOn = None,
    labels: CalibrationLabels = None,
    missing: Missing = None,
    tree: Tree = "",
    layout: Layout = "",
    clean: Annotated[
        bool, typer.Option("--clean", help="Only galaxies with enough votes (Willett et al. 2013, table 3).")
    ] = False,
    weight_column: Annotated[str, typer.Option(help="A column of weights, one a galaxy.")] = "",
    bins: Annotated[str, typer.Option(help="Also in bins: COLUMN, or COLUMN:0.02,0.05,0.1 with edges.")] = "",
    column: Annotated[str, typer.Option(help="The column of --bins, if it has another name.")] = "",
    time: Annotated[
        str, typer.Option(help='T_obs for a rate: "0.3", "0.2-0.4" (Gyr), "normal:0.3,0.1", "lotz-gm20".')
    ] = "",
    density: Annotated[str, typer.Option(help='Number density for a rate by volume: "1e-2 Mpc-3".')] = "",
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    figures: Annotated[Path | None, typer.Option(help="A folder for figures (PDF, PNG).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate the merger fraction, or that of any answer, with intervals; and the merger rate.

    Corrections come from labelled galaxies outside training: those of the catalogue's run, unless
    --calibrate-on names others.

    Example: hubblefork mergers predictions.parquet --threshold 0.3 --time 0.2-0.4
    """
    from hubblefork.cli.results import fraction_lines, rate_lines

    if density and not time:
        raise typer.BadParameter("--density makes a rate by volume, which needs --time as well")
    result = hf.fraction(
        catalogue,
        where or (answer, threshold),
        threshold=predicted_threshold,
        calibrate_on=calibrate_on,
        labels=labels,
        missing=missing or [],
        tree=tree,
        layout=layout,
        clean=clean,
        weights=weight_column,
        bins=bins,
        column=column,
        level=level,
    )
    rates = result.rates(time, density) if time else {}
    if json:
        typer.echo(dumps(result.as_json(rates), indent=2, allow_nan=False))
    else:
        show(*fraction_lines(catalogue, result), *rate_lines(rates, time))
        for warning in result.warnings():
            typer.secho(f"warning: {warning}", fg="yellow")
    if figures:
        from hubblefork.api.fractions import draw

        draw(result, figures, rate=rates.get("per_volume"))


@app.command(rich_help_panel=USE)
def export(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write: .onnx, or .safetensors (adapters merged). "
            "Default: the ONNX file beside the weights, by which they predict without PyTorch."
        ),
    ] = None,
    side: Annotated[int, typer.Option(help="For .onnx: side of the cutouts, in pixels.")] = 424,
    half: Annotated[bool, typer.Option("--half", help="For .safetensors: half precision.")] = False,
    field: Field = None,
    enlarge: Enlarge = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a network as one file: ONNX from cutouts to fractions, or weights that need no other file.

    Example: hubblefork export runs/lab-cnn --out lab-cnn.onnx
    hubblefork export runs/resnet50-lora --out resnet50-lora.safetensors
    """
    difference = hf.export(
        model, out, side=side, field=field, enlarge=enlarge, half=half, overwrite=overwrite
    )
    typer.echo(out or f"{model}: written as ONNX beside its weights")
    if difference is not None:
        typer.echo(f"uint8 (galaxy, {side}, {side}, 3) in; at most {difference:.1g} from PyTorch")
