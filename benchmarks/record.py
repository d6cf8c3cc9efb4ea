"""The speed-run: how long each recipe takes, from raw stamps or images, to a fixed validation RMSE.

    python benchmarks/record.py DATA --recipe lab-cnn --recipe fork [--seeds 3] [--target 0.119]

DATA is a data folder as `hubblefork ingest` writes it. A training stops after the epoch whose validation RMSE
is at or below the target for the first time; the time is that from the stamps on the disk to the end of that
epoch, network and optimiser made, validation counted in, imports not. With `--from images` cutting the stamps
out of the images counts too. Epochs are as long as the recipe says: `--set steps_per_epoch=50` looks often.

Every training is a row of times.csv in `--record` (records/<date>-speed-run by itself), from which the table
in README.md beside it is made; recipes and epochs lie there too. A row that is there is not run again: an
interrupted speed-run goes on, and one on a GPU adds to one on a CPU.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from hubblefork.cli.terminal import bar
from hubblefork.data.folders import RunFolder
from hubblefork.data.stamps import prepare
from hubblefork.io import write_text
from hubblefork.network.device import Hardware, precision_of
from hubblefork.network.recipe import Recipe, load_recipe, recipe_text
from hubblefork.network.training import train
from hubblefork.studies.study import check_addresses, settings_of
from measure import commit, processor

TARGET = 0.119  # what lab-cnn just reaches on real galaxies (records/2026-11-22-speed-run-2-cores)
CATALOGUE = ("catalogue.parquet", "split.toml", "judge_on.txt", "tree.toml")


class Target(Callback):
    """Stops training when the validation RMSE is at most `rmse`.

    `seconds` is the time from the creation of this object until then; None if the RMSE was not reached.
    """

    def __init__(self, rmse: float) -> None:
        self.rmse = rmse
        self.began = time.perf_counter()
        self.seconds: float | None = None

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Compare, and stop."""
        if float(trainer.callback_metrics["validation_rmse"]) <= self.rmse:
            self.seconds = time.perf_counter() - self.began
            trainer.should_stop = True


@dataclass(frozen=True)
class Time:
    """One training: what was run where, and the seconds to the target (None: not reached).

    `seconds` is everything, `stamps` of it the cutting of stamps, `training` that without the validation.
    """

    recipe: str
    settings: str
    seed: int
    begins: str
    target: float
    hardware: str
    precision: str
    seconds: float | None = None
    stamps: float = 0.0
    training: float = 0.0
    epochs: int = 0
    galaxies: int = 0
    validation_rmse: float = 0.0
    commit: str = ""

    @property
    def asked(self) -> tuple:
        """What was to be run, all that came out of it left aside."""
        return (self.recipe, self.settings, self.seed, self.begins, self.target, self.hardware)


def main(words: Sequence[str] | None = None) -> None:
    asked = _arguments(words)
    where = Hardware(asked.device).where
    names = {text: load_recipe(text).name for text in asked.recipe}
    check_addresses(asked.set, tuple(names.values()))
    for seed in range(asked.seeds):
        for text, name in names.items():
            settings = settings_of(name, asked.set)
            recipe = load_recipe(text, [*settings, f"seed={seed}"])
            precision = precision_of(recipe.precision, where).name
            planned = Time(
                name, " ".join(settings), seed, asked.begins, asked.target, hardware(where), precision
            )
            _once(planned, recipe, asked)
    _write_readme(asked.record, read_times(asked.record))
    print(asked.record / "README.md")


def hardware(where: torch.device) -> str:
    """Return the cores or the device in words."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    device = "" if where.type == "cpu" else f", {where.type}"
    return f"{processor()}, {torch.get_num_threads()} threads{device}"


def read_times(record: Path) -> list[Time]:
    """Return the rows of a record's times.csv."""
    if not (record / "times.csv").exists():
        return []
    kinds = {field.name: str(field.type).partition(" ")[0] for field in fields(Time)}
    read = {"str": str, "int": int, "float": lambda text: float(text) if text else None}
    with (record / "times.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [Time(**{key: read[kinds[key]](text) for key, text in row.items()}) for row in rows]


def _once(planned: Time, recipe: Recipe, asked: argparse.Namespace) -> None:
    times = read_times(asked.record)
    if planned.asked in [one.asked for one in times]:
        return
    with tempfile.TemporaryDirectory(dir=asked.out) as folder:
        run = Path(folder) / "run"
        done = replace(_timed(planned, recipe, asked, run), commit=commit())
        kind = RunFolder(run).notes()["device"]["kind"]
        stem = f"{planned.recipe}-{planned.begins}-{kind}-seed{planned.seed}"
        write_text(asked.record / f"metrics-{stem}.csv", (run / "metrics.csv").read_text(encoding="utf-8"))
    write_text(asked.record / f"recipe-{planned.recipe}.toml", recipe_text(replace(recipe, seed=0)))
    _write_times(asked.record, [*times, done])
    reached = f"{done.seconds:.1f} s" if done.seconds else "not reached"
    what = f"{done.recipe} seed {done.seed} from {done.begins}"
    print(f"{what}: {reached}, RMSE {done.validation_rmse:.4f}", flush=True)


def _timed(planned: Time, recipe: Recipe, asked: argparse.Namespace, run: Path) -> Time:
    """Train until the target is reached; the clock starts before the stamps are cut, or with them there."""
    data = _without_stamps(asked.data, run.parent) if planned.begins == "images" else asked.data
    if planned.begins == "stamps":
        prepare(data, recipe.stamps, progress=bar)
    began = time.perf_counter()
    prepare(data, recipe.stamps, progress=bar)
    cut = time.perf_counter() - began
    target = Target(planned.target)
    train(data, recipe, run, device=asked.device, callbacks=[target], progress=bar)
    rows = RunFolder(run).metrics()
    return replace(
        planned,
        seconds=None if target.seconds is None else cut + target.seconds,
        stamps=cut,
        training=sum(row["seconds"] for row in rows),
        epochs=len(rows),
        galaxies=round(sum(row["seconds"] * row["galaxies_per_second"] for row in rows)),
        validation_rmse=min(row["validation_rmse"] for row in rows),
    )


def _without_stamps(data: Path, beside: Path) -> Path:
    """Return a data folder with the same galaxies and no stamps."""
    fresh = beside / "data"
    fresh.mkdir()
    for name in CATALOGUE:
        if (data / name).exists():
            shutil.copy(data / name, fresh)
    return fresh


def _write_times(record: Path, times: Sequence[Time]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[field.name for field in fields(Time)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(one) for one in times)
    write_text(record / "times.csv", text.getvalue())


def _write_readme(record: Path, times: Sequence[Time]) -> None:
    groups: dict[tuple, list[Time]] = {}
    for one in times:
        groups.setdefault((one.hardware, one.begins, one.target, one.recipe, one.settings), []).append(one)
    header = ["recipe", "from", "validation RMSE", "on", "reached", "seconds, median (min to max)"]
    header += ["training alone", "epochs", "galaxies shown", "commit"]
    lines = [header, ["---"] * len(header), *(_row(found) for _, found in sorted(groups.items()))]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    write_text(record / "README.md", f"# Speed-run\n\n{EXPLAINED}\n\n{table}\n")


EXPLAINED = """\
Time to a fixed validation RMSE: from the stamps on the disk (or from the images, cutting the stamps counted
in) to the end of the first epoch whose validation RMSE is at or below the target, network and optimiser made
and validation counted in. Epochs are as long as the recipe says, and no time is shorter than one of them.
`times.csv` has every training, `metrics-*.csv` its epochs, `recipe-*.toml` what was trained;
`python benchmarks/record.py` makes all of it."""


def _row(found: Sequence[Time]) -> list[str]:
    first = found[0]
    reached = [one for one in found if one.seconds is not None]
    name = f"{first.recipe} ({first.settings})" if first.settings else first.recipe
    commits = ", ".join(dict.fromkeys(one.commit for one in found))
    cells = [name, first.begins, f"≤ {first.target:g}", f"{first.hardware}, {first.precision}"]
    cells.append(f"{len(reached)} of {len(found)}")
    if not reached:
        return [*cells, "–", "–", "–", "–", commits]
    seconds = [one.seconds for one in reached if one.seconds is not None]
    return [
        *cells,
        f"**{statistics.median(seconds):.1f}** ({min(seconds):.1f} to {max(seconds):.1f})",
        f"{statistics.median(one.training for one in reached):.1f}",
        f"{statistics.median(one.epochs for one in reached):g}",
        f"{statistics.median(one.galaxies for one in reached):,.0f}",
        commits,
    ]


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--target", type=float, default=TARGET, help="the validation RMSE to be reached")
    parser.add_argument("--set", action="append", default=[], help="[RECIPE:]key=value")
    parser.add_argument("--from", dest="begins", choices=["stamps", "images"], default="stamps")
    parser.add_argument("--device", default="", help="cpu, cuda or mps; chosen by itself when not given")
    parser.add_argument("--out", type=Path, help="where to work; a temporary folder without it")
    default = Path(__file__).parents[1] / "records" / f"{date.today()}-speed-run"
    parser.add_argument("--record", type=Path, default=default, help="where the table is kept")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
