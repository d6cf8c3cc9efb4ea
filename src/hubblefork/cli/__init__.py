"""The command line: one verb a stage, each a few lines around one call of the library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hubblefork import __version__
from hubblefork.cli.finetune import finetune
from hubblefork.cli.mergers import mergers
from hubblefork.cli.options import (
    Data,
    Device,
    Memory,
    PrecisionName,
    RecipeName,
    Run,
    Settings,
    Weights,
    hardware_of,
    recipe_of,
)
from hubblefork.cli.search import crossval, merge, tune
from hubblefork.cli.shift import shift
from hubblefork.cli.study import study
from hubblefork.errors import ExtraMissing, HubbleforkError

if TYPE_CHECKING:
    from hubblefork.network.model import Parameters
    from hubblefork.network.recipe import Recipe

app = typer.Typer(
    help="Images of galaxies to calibrated Galaxy Zoo vote fractions, and to the science they allow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
fetch = typer.Typer(help="Fetch the real data from where it is published.", no_args_is_help=True)
app.add_typer(fetch, name="fetch")
app.add_typer(study, name="study")
app.command()(mergers)
app.command()(finetune)
app.command()(tune)
app.command()(crossval)
app.command()(merge)
app.command()(shift)


def main() -> None:
    """Run the command; end with one line and status 1 for a mistake, 130 for an interruption."""
    try:
        app()
    except HubbleforkError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        raise SystemExit(1) from error
    except KeyboardInterrupt as stop:
        typer.secho("Interrupted. The same command goes on where it stopped.", err=True)
        raise SystemExit(130) from stop


@app.callback()
def common(
    networks: Annotated[
        Path | None,
        typer.Option(
            envvar="HUBBLEFORK_NETWORKS",
            help="A Python file that registers networks of your own with timm: then they are encoder:NAME.",
        ),
    ] = None,
) -> None:
    """Run first what concerns all commands."""
    if networks is not None:
        from hubblefork.network.architectures.encoder import run_networks

        run_networks(networks)


@app.command()
def ingest(
    inputs: Annotated[
        list[Path], typer.Argument(help="A folder of Kaggle's files, archives or folders of images.")
    ],
    out: Annotated[Path, typer.Option(help="The data folder to write.")],
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label tables: .csv, .zip of a .csv, .parquet.")
    ] = None,
    tree: Annotated[
        str, typer.Option(help="The decision tree of the labels: a name, or a .toml file.")
    ] = "galaxy_zoo_2",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first image or label that is bad.")
    ] = False,
) -> None:
    """Images and labels to one catalogue: what is bad is listed in rejects.csv, the good goes on.

    Example: hubblefork ingest kaggle/ --out data/
    """
    from hubblefork.cli.bars import bar
    from hubblefork.cli.tables import ingest_lines, show
    from hubblefork.data.ingest import ingest as run
    from hubblefork.zoo import load_tree

    summary = run(inputs, out, labels=labels or [], tree=load_tree(tree), strict=strict, progress=bar)
    show(*ingest_lines(summary, out))


@app.command()
def split(
    data: Data,
    salt: Annotated[str, typer.Option(help="Names the split: another salt, another split.")] = "hubblefork",
    test: Annotated[int, typer.Option(help="Per cent of the galaxies to report on.")] = 0,
    validation: Annotated[int, typer.Option(help="Per cent of the galaxies to choose by.")] = 20,
    judge_on: Annotated[Path | None, typer.Option(help="File of ids; all other galaxies train.")] = None,
) -> None:
    """Set which galaxies train, choose and judge: a hash of the id, so that new galaxies move none.

    Example: hubblefork split data/ --test 30 --validation 15 --judge-on unselected_ids.txt
    """
    from collections import Counter

    from hubblefork.data.catalogue import galaxy_ids, labelled, read_catalogue
    from hubblefork.data.split import SPLITS, Split, read_ids, write_split
    from hubblefork.zoo import read_tree

    chosen = Split(salt, test, validation, read_ids(judge_on) if judge_on else None)
    catalogue = read_catalogue(data / "catalogue.parquet")
    with_labels = catalogue.filter(labelled(catalogue, read_tree(data)))
    counts = Counter(chosen.assign(galaxy_ids(with_labels).tolist()).tolist())
    write_split(chosen, data)
    typer.echo("labelled galaxies: " + ", ".join(f"{part} {counts[part]}" for part in SPLITS))


@app.command()
def stamps(
    data: Data,
    crop: Annotated[
        int, typer.Option(help="Side of the central square to keep, in pixels of the image.")
    ] = 212,
    size: Annotated[int, typer.Option(help="Side of the stamp, in its own pixels.")] = 64,
) -> None:
    """Prepare the stamps that a network sees; train and predict do it by themselves.

    Example: hubblefork stamps data/ --crop 212 --size 64
    """
    from hubblefork.cli.bars import bar
    from hubblefork.data.images import StampSpec
    from hubblefork.data.stamps import prepare

    made = prepare(data, StampSpec(crop=crop, size=size), progress=bar)
    typer.echo(f"{len(made.pixels)} stamps of {size}×{size} pixels from the central {crop}×{crop}")


@app.command()
def train(
    data: Data,
    recipe: RecipeName,
    out: Annotated[Path, typer.Option(help="The run folder to write, or to go on with.")],
    settings: Settings = None,
    weights: Weights = None,
    precision: PrecisionName = "",
    memory: Memory = "",
    device: Device = "",
    devices: Annotated[int, typer.Option(help="Devices (on a CPU: processes) of each node.")] = 1,
    nodes: Annotated[int, typer.Option(help="Nodes, started by torchrun or SLURM.")] = 1,
) -> None:
    """Train a recipe; called again after an interruption it goes on.

    Example: hubblefork train data/ --recipe lab-cnn --out runs/lab-cnn --set epochs=20
    """
    from hubblefork.cli.bars import bar
    from hubblefork.cli.tables import trained_text
    from hubblefork.io import silent
    from hubblefork.network.training import is_first
    from hubblefork.network.training import train as run

    hardware = hardware_of(device, memory, devices=devices, nodes=nodes)
    chosen, shown = recipe_of(recipe, settings, precision), bar if is_first() else silent
    run(data, chosen, out, weights=weights, hardware=hardware, progress=shown)
    if is_first():
        typer.echo(trained_text(out))


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder; with --baselines a data folder will do.")],
    part: Annotated[str, typer.Option(help="test or validation; test when the split has one.")] = "",
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Only what needs no network: the least to beat.")
    ] = False,
    views: Annotated[
        int, typer.Option(help="Average over so many rotations and reflections of each galaxy.")
    ] = 1,
    device: Device = "",
) -> None:
    """Judge a run on galaxies that it did not train on: RMSE, agreement, intervals, against the baselines.

    Example: hubblefork evaluate runs/lab-cnn
    """
    from hubblefork.api.runs import baselines_of, evaluate_run
    from hubblefork.cli.bars import bar
    from hubblefork.cli.tables import baselines_table, evaluation_tables, show

    if baselines:
        show(baselines_table(baselines_of(run, part)))
        return
    show(*evaluation_tables(evaluate_run(run, part, views=views, device=device, progress=bar)))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder, a .safetensors file, or fork: ours.")],
    sources: Annotated[
        list[Path], typer.Argument(help="Zips and tars of images, folders of them, or one data folder.")
    ],
    out: Annotated[Path, typer.Option(help="The catalogue to write: .parquet, .csv, .fits or .vot.")],
    kaggle: Annotated[
        bool, typer.Option("--kaggle", help="Kaggle's submission columns: GalaxyID, Class1.1 …")
    ] = False,
    views: Annotated[
        int, typer.Option(help="Average over so many rotations and reflections of each galaxy.")
    ] = 1,
    others: Annotated[
        list[Path] | None, typer.Option("--with", help="Another run to average with; as often as you like.")
    ] = None,
    intervals: Annotated[
        float | None, typer.Option(help="Add <answer>_low and _high that cover so often: 0.68, 0.9 or 0.95.")
    ] = None,
    device: Device = "",
) -> None:
    """Vote fractions of every image, as a catalogue; called again after an interruption it goes on.

    Example: hubblefork predict runs/lab-cnn images_test_rev1.zip --out predictions.parquet
    hubblefork predict fork tiles/*.tar --views 16 --out catalogue.parquet
    """
    from hubblefork.api.beside import adding_bounds
    from hubblefork.cli.bars import bar
    from hubblefork.network.predict import predict as predict_all

    how: dict[str, Any] = {"others": others or [], "views": views}
    adding = adding_bounds(run, intervals, **how) if intervals is not None else None
    made = predict_all(run, sources, out, **how, kaggle=kaggle, adding=adding, device=device, progress=bar)
    typer.echo(f"{made.path}: {made.galaxies} galaxies, {len(made.rejects)} images could not be read")


@app.command()
def classify(
    images: Annotated[list[Path], typer.Argument(help="Image files, folders, zips or tars of them.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write Kaggle's columns to a .csv, .parquet, .fits or .vot file."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Another run, or its weights.safetensors, than what comes along.")
    ] = None,
    views: Annotated[int, typer.Option(help="Average over so many views of each galaxy.")] = 16,
    device: Device = "",
) -> None:
    """Classify galaxies with the network that comes along: the tree with vote fractions, drawn here.

    Example: hubblefork classify my_galaxy.jpg
    """
    from hubblefork.api.classify import classify_all, write_classified
    from hubblefork.cli.bars import bar

    found = classify_all(images, run=run, views=views, device=device, progress=bar)
    for galaxy in found.galaxies if out is None else []:
        typer.echo(f"{galaxy}\n")
    if found.remark and out is None:
        typer.secho(found.remark, fg="yellow", err=True)
    for _, reason in found.rejects:
        typer.secho(reason, fg="red", err=True)
    if out is not None:
        write_classified(found, out)
        typer.echo(f"{out}: {len(found.galaxies)} galaxies, {len(found.rejects)} images could not be read")
    if not found.galaxies:
        raise typer.Exit(1)


@app.command()
def report(
    run: Run,
    predictions: Annotated[Path | None, typer.Option(help="A catalogue of predictions to add.")] = None,
) -> None:
    """One HTML page about a run: what was trained on what, curves, scatter, prototypes, mergers.

    Example: hubblefork report runs/lab-cnn --predictions predictions.parquet
    """
    from hubblefork.cli.bars import bar
    from hubblefork.report import write_report

    typer.echo(write_report(run, predictions=predictions, progress=bar))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder, a .safetensors file, or fork: ours.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    side: Annotated[int, typer.Option(help="Side of the cutouts that it will be given, in pixels.")] = 424,
) -> None:
    """One ONNX file that takes cutouts: preprocessing, network and head, checked against PyTorch.

    Example: hubblefork export runs/lab-cnn --out lab-cnn.onnx
    """
    from hubblefork.network.export import export as write

    apart = write(run, out, side=side)
    typer.echo(f"{out}: takes uint8 (galaxy, {side}, {side}, 3); at most {apart:.1g} from PyTorch")


@app.command()
def tree(
    name: Annotated[str, typer.Argument(help="A decision tree's name, or a .toml file.")] = "galaxy_zoo_2",
) -> None:
    """Draw the decision tree that volunteers walk."""
    from hubblefork.cli.tables import drawn_tree, show
    from hubblefork.zoo import load_tree

    show(drawn_tree(load_tree(name)))


@app.command()
def recipes() -> None:
    """List the recipes, with their parameter counts in both ways of counting."""
    from hubblefork.cli.tables import recipe_table, show
    from hubblefork.network.recipe import load_recipe, recipe_names

    known = [load_recipe(name) for name in recipe_names()]
    show(recipe_table([(recipe, _counted(recipe)) for recipe in known]))


@app.command()
def info() -> None:
    """Show versions, device, precision and threads."""
    import platform
    from importlib import metadata

    import torch

    from hubblefork.data.folders import PACKAGES
    from hubblefork.network.device import best_device, best_precision

    device = best_device()
    entries: dict[str, Any] = {"hubblefork": __version__, "python": platform.python_version()}
    entries |= {package: metadata.version(package) for package in PACKAGES}
    entries |= {"device": device, "precision": best_precision(device), "threads": torch.get_num_threads()}
    for key, value in entries.items():
        typer.echo(f"{key:<12} {value}")


@app.command()
def mock(
    folder: Annotated[
        Path, typer.Argument(help="Where to write Kaggle's files of a sky that does not exist.")
    ],
    galaxies: Annotated[
        int, typer.Option(help="Labelled galaxies; a quarter as many come without labels.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sky.")] = 0,
    merger_fraction: Annotated[float, typer.Option(help="The true share of mergers.")] = 0.05,
    seeing: Annotated[float, typer.Option(help="Multiplies the width of the survey's PSF.")] = 1.0,
    noise: Annotated[float, typer.Option(help="Multiplies the survey's sky noise.")] = 1.0,
    pixel: Annotated[float, typer.Option(help="Multiplies the side of the survey's pixels.")] = 1.0,
) -> None:
    """Draw a mock sky in Kaggle's own layout, with the truth beside it.

    Example: hubblefork mock sky/ --galaxies 1000 --seed 1
    """
    from hubblefork.cli.bars import bar
    from hubblefork.mock import write_mock_sky

    write_mock_sky(
        folder,
        galaxies=galaxies,
        seed=seed,
        merger_fraction=merger_fraction,
        seeing=seeing,
        noise=noise,
        pixel=pixel,
        progress=bar,
    )
    typer.echo(f"{folder}: a mock sky of {galaxies} labelled galaxies; its truth is in truth.parquet")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to write everything.")] = Path("demo"),
    galaxies: Annotated[int, typer.Option(help="Labelled galaxies of the mock sky.")] = 1600,
    seed: Annotated[int, typer.Option(help="The same seed gives the same sky and run.")] = 0,
) -> None:
    """The whole job on a mock sky, in minutes: mock, ingest, train, evaluate, predict, mergers, report."""
    from hubblefork.api.demo import run_demo
    from hubblefork.cli.bars import bar

    typer.echo(run_demo(out, galaxies=galaxies, seed=seed, progress=bar))


@fetch.command("kaggle")
def fetch_from_kaggle(out: Annotated[Path, typer.Option(help="Where to put the files.")]) -> None:
    """Fetch the files of Kaggle's Galaxy Challenge, with your own Kaggle credentials."""
    from hubblefork.cli.bars import bar
    from hubblefork.data.surveys import fetch_kaggle

    _show_terms("kaggle")
    fetch_kaggle(out, progress=bar)
    typer.echo(f"Next: hubblefork ingest {out} --out data/")


@fetch.command("gz2")
def fetch_galaxy_zoo_2(out: Annotated[Path, typer.Option(help="Where to put the files.")]) -> None:
    """Fetch the Galaxy Zoo 2 images and the table of Hart et al. 2016; goes on after an interruption."""
    from hubblefork.cli.bars import bar
    from hubblefork.data.surveys import fetch_gz2

    _show_terms("gz2")
    fetch_gz2(out, progress=bar)
    typer.echo(f"Next: hubblefork ingest {out} --out data/")


def _show_terms(survey: str) -> None:
    from hubblefork.data.surveys import load_survey

    known = load_survey(survey)
    typer.echo(f"{known.title}. {known.terms}")
    typer.echo("Cite: " + "; ".join(known.citations))


def _counted(recipe: Recipe) -> Parameters | ExtraMissing:
    from hubblefork.network.model import count_by_recipe
    from hubblefork.zoo import load_tree

    try:
        return count_by_recipe(recipe, load_tree())
    except ExtraMissing as missing:
        return missing
