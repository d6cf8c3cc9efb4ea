"""How many labels a network needs in a new survey: several starts, each fine-tuned to a few labels.

`nothing` is the network of `fork` with random weights. The labelled galaxies of a training are drawn by a
hash of id and seed among those that do not judge; the split says which of them choose the epoch. All are
judged on the same test galaxies. OUT holds

runs/<start>/<labels>/seed-<seed>   the trainings, normal runs
degraded, data                      the images of `degrade`, and their data folder
"""

from __future__ import annotations

import io
import shlex
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from hubblefork.api import judging
from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.split import TEST, Split, hashed, write_split
from hubblefork.data.trained import EMBEDDED
from hubblefork.errors import CatalogueError, DownloadError, ImageError, RecipeError
from hubblefork.images.members import MemberError
from hubblefork.images.sources import open_source
from hubblefork.io import Progress, replacing, silent
from hubblefork.network.architectures import ENCODER
from hubblefork.network.device import Hardware
from hubblefork.network.finetuning import FROM_ENCODER, finetune_folder, published, untaught
from hubblefork.network.recipe import override
from hubblefork.network.weights import Weights, load_weights
from hubblefork.pages.page import Page
from hubblefork.pages.plots import Panel, Series, curves
from hubblefork.pages.style import PAGE, SERIES, Drawing
from hubblefork.pages.tables import Column, Table, plain, spread
from hubblefork.prediction.loop import predict_rows
from hubblefork.prediction.predictor import Predictor
from hubblefork.prediction.runs import features_of_part
from hubblefork.prediction.runtimes import open_network
from hubblefork.stats.metrics import rmse
from hubblefork.stats.samples import Comparison, compare
from hubblefork.studies.shift import reference
from hubblefork.studies.study import mock_data, read_entries, settings_of
from hubblefork.tables.catalogue import ID, fractions, galaxy_ids, labelled, write_catalogue

FORK, NOTHING = "fork", "nothing"
SEEING = 7.0
"""σ in pixels of a cutout of 424: about what doubles the width of the PSF in Kaggle's images."""
BAND = 1  # green: r of the gri images
JPEG_QUALITY = 92


@dataclass(frozen=True)
class Plan:
    """What is trained: each of `starts` on each number of `labels`, with so many `seeds`.

    `settings`: `key=value` or `START:key=value`, which wins; `draws`, `drawn`: how often, and how many
    galaxies of the new survey are compared with the old one.
    """

    starts: Sequence[str]
    labels: Sequence[int]
    seeds: int
    draws: int
    drawn: Sequence[int]
    settings: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.seeds < 1 or not self.labels or min(self.labels) < 1:
            raise RecipeError(f"{self.seeds} seeds, labels {list(self.labels)}: at least 1 of each")


def load_plan(*, quick: bool = False, **changes: Any) -> Plan:
    """Return the plan of the package with `changes` where they are neither None nor empty."""
    entries = read_entries("labels", quick=quick, adding="settings")
    given = {key: value for key, value in changes.items() if value}
    settings = [*entries["settings"], *given.pop("settings", ())]
    return Plan(**{**entries, **given, "settings": settings})


def run_labels(
    data: Path | None,
    out: Path,
    *,
    plan: Plan | None = None,
    degrade: bool = False,
    old: Path | None = None,
    quick: bool = False,
    only_report: bool = False,
    device: str = "",
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Run the study on a data folder of the new survey; return the page. Called again it goes on.

    With `degrade` the new survey are the images of `data`, made worse (see `degraded`). `old` is a run on the
    old survey: its galaxies are compared with the new ones. Raises CatalogueError without data, unless
    `quick`, and as each stage does.
    """
    plan = plan or load_plan(quick=quick)
    split = Split(salt="labels", test=30, validation=15)
    place = data or mock_data(out, quick=quick, galaxies=240, test_galaxies=1, split=split, progress=progress)
    place = degraded(DataFolder(place), out, progress) if degrade else place
    galaxies = Galaxies(DataFolder(place))
    results, skipped = Results(galaxies, out / "runs"), dict[str, list[str]]()
    for number in plan.labels:
        for start in plan.starts:
            try:
                if not only_report:
                    results.train(plan, start, number, device, progress)
            except (DownloadError, RecipeError, CatalogueError) as error:
                skipped.setdefault(str(error), []).append(f"{start}, {number} labels")
    return _write_page(plan, results, skipped, out / "report", old=old, device=device, command=command)


def degraded(data: DataFolder, out: Path, progress: Progress = silent) -> Path:
    """Write the images of a data folder as a worse survey sees them; return their data folder, OUT/data.

    The seeing is twice as wide (a Gaussian of σ = `SEEING` in cutouts of 424 pixels), the pixels are twice as
    large, and of the bands only the middle one is left, shown as grey. Labels and split stay.
    """
    new, images, labels = out / "data", out / "degraded" / "images.zip", out / "degraded" / "labels.parquet"
    if (new / "split.toml").exists():
        return new
    catalogue, tree = data.catalogue(), data.tree()
    write_catalogue(catalogue.select([ID, *tree.columns]), labels)
    with (
        replacing(images) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
        progress("degrading images", len(catalogue)) as advance,
    ):
        for name, content in encoded_images(catalogue):
            archive.writestr(f"{name}.jpg", degraded_jpeg(content))
            advance(1)
    ingest([images], new, labels=[labels], tree=tree, progress=progress)
    write_split(data.split(), new)
    return new


def encoded_images(catalogue: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Yield ids and encoded images of a data folder's catalogue. Raises ImageError."""
    members: dict[str, dict[str, str]] = {}
    columns = (catalogue.column(key).to_pylist() for key in ("source", "member", ID))
    for source, member, name in zip(*columns, strict=True):
        members.setdefault(source, {})[member] = str(name)
    for source, names in members.items():
        with open_source(Path(source)) as opened:
            for member, content in opened.stream(list(names)):
                if isinstance(content, MemberError):
                    raise content
                yield names[member], bytes(content)


def degraded_jpeg(encoded: bytes) -> bytes:
    """Return an image with worse seeing, larger pixels and one band, of its former size, as JPEG."""
    with Image.open(io.BytesIO(encoded)) as image:
        light = np.asarray(image.convert("RGB"), np.float32)[..., BAND]
    blurred = gaussian_filter(light, SEEING * light.shape[0] / 424)
    grey = Image.fromarray(np.clip(np.rint(blurred), 0, 255).astype(np.uint8))
    small = grey.resize((max(1, grey.width // 2), max(1, grey.height // 2)), Image.Resampling.BOX)
    large, file = small.resize(grey.size, Image.Resampling.BICUBIC), io.BytesIO()
    Image.merge("RGB", [large] * 3).save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


class Galaxies:
    """The labelled galaxies of a data folder: those that judge, and those whose labels may be asked for.

    `rows` are those of the judging galaxies in the catalogue, `judging` and `labels` the ids of both.
    """

    def __init__(self, data: DataFolder) -> None:
        self.data, self.tree, table = data, data.tree(), data.catalogue()
        self.split, ids = data.split(), galaxy_ids(table).astype(str)
        self.open, known = replace(self.split, judge_on=None), labelled(table, self.tree)
        judges = known & (self.split.assign(ids.tolist()) == TEST)
        self.rows, self.judging = np.flatnonzero(judges), ids[judges].tolist()
        self.labels = ids[known & ~judges & (self.open.assign(ids.tolist()) != TEST)].tolist()
        if not self.judging:
            raise CatalogueError(f"{data}: its split has no test galaxies: hubblefork split {data} --test 30")

    def split_for(self, number: int, seed: int) -> Split:
        """Return the split in which so many galaxies have labels. Raises CatalogueError for too many."""
        if number > len(self.labels):
            raise CatalogueError(
                f"{number} labels, of {len(self.labels)} galaxies that have some and do not judge"
            )
        chosen = sorted(self.labels, key=lambda name: hashed(f"labels-{seed}", name))[:number]
        return replace(self.open, judge_on=frozenset([*chosen, *self.judging]), only=frozenset(chosen))


@dataclass
class Results:
    """The trainings of a study below `runs`, judged on the same galaxies."""

    galaxies: Galaxies
    runs: Path
    starts: dict[tuple[str, int], Weights] = field(default_factory=dict)

    def folder(self, start: str, number: int, seed: int) -> RunFolder:
        """Return the run of a training, whether it is there or not."""
        name = start.removeprefix(ENCODER).replace("/", "-").replace(":", "-")
        return RunFolder(self.runs / name / f"{number}-labels" / f"seed-{seed}")

    def train(self, plan: Plan, start: str, number: int, device: str, progress: Progress) -> None:
        """Train and judge all seeds of a start on so many labels."""
        for seed in range(plan.seeds):
            run, settings = self.folder(start, number, seed), settings_of(start, plan.settings)
            if not run.is_finished():
                finetune_folder(
                    self.weights(start, seed if start == NOTHING else 0),
                    self.galaxies.data.path,
                    run.path,
                    settings=[
                        *(FROM_ENCODER if start.startswith(ENCODER) else ()),
                        *settings,
                        f"seed={seed}",
                    ],
                    split=self.galaxies.split_for(number, seed),
                    hardware=Hardware(device),
                    progress=progress,
                )
            if not run.is_evaluated():
                judging.evaluate(run.path, device=device, progress=progress)

    def weights(self, start: str, seed: int) -> Weights:
        """Return what a training starts from."""
        if (start, seed) not in self.starts:
            if start == FORK:
                weights = load_weights(EMBEDDED)
            elif start == NOTHING:
                weights = untaught(override(load_weights(EMBEDDED).recipe, [f"seed={seed}"]))
            else:
                weights = published(start)
            self.starts[start, seed] = weights
        return self.starts[start, seed]

    def errors(self, plan: Plan, start: str, number: int) -> list[float]:
        """Return the RMSE of each seed that is trained and judged."""
        runs = (self.folder(start, number, seed) for seed in range(plan.seeds))
        return [run.evaluation()["rmse"]["value"] for run in runs if run.is_evaluated()]

    def untouched(self, device: str) -> float | None:
        """Return the RMSE of `fork` as it is; None for other questions, or images too small for it."""
        network = open_network(EMBEDDED, device=device)
        if network.trained.tree != self.galaxies.tree:
            return None
        data, rows = self.galaxies.data, self.galaxies.rows
        try:
            predicted = predict_rows(Predictor(network), data.path, rows, "predicting with fork")
        except ImageError:
            return None
        return rmse(predicted, fractions(data.catalogue().take(rows), self.galaxies.tree))


def warnings_of_shift(
    scores: Mapping[str, NDArray], held_out: NDArray, drawn: Sequence[int], draws: int
) -> dict[int, dict[str, list[Comparison]]]:
    """Compare random samples of each survey's scores with held-out ones, `draws` times for each size.

    `scores` maps a survey to the scores of its galaxies (see `studies.shift`); sizes that a survey does not
    have are left out.
    """
    rng, compared = np.random.default_rng(0), dict[int, dict[str, list[Comparison]]]()
    for size in drawn:
        if all(len(values) >= size for values in scores.values()):
            compared[size] = {
                name: [compare(rng.choice(values, size, replace=False), held_out) for _ in range(draws)]
                for name, values in scores.items()
            }
    return compared


def _scores(old: Path, galaxies: Galaxies, device: str) -> tuple[dict[str, NDArray], NDArray]:
    """Return the scores of the judging galaxies of the old and the new survey, and the held-out ones."""
    against = reference(old, device=device)
    _, features = features_of_part(old, TEST, device=device)
    predictor = Predictor(open_network(old, device=device, features=True))
    new = predict_rows(predictor, galaxies.data.path, galaxies.rows, "features")
    scores = {"old": against.training.distances(features), "new": against.training.distances(new)}
    return scores, against.held_out


def _write_page(
    plan: Plan,
    results: Results,
    skipped: Mapping[str, Sequence[str]],
    out: Path,
    *,
    old: Path | None,
    device: str,
    command: Sequence[str],
) -> Path:
    page, errors = Page(out), dict[str, dict[int, list[float]]]()
    for start in plan.starts:
        found = {number: results.errors(plan, start, number) for number in plan.labels}
        if any(found.values()):
            errors[start] = {number: values for number, values in found.items() if values}
    untouched = results.untouched(device)
    page.optional("errors-table")
    if errors:
        page.table("errors-table", _table(plan, errors))
        page.figure("errors", *errors_over_labels(errors, untouched=untouched))
    else:
        page.missing("errors", "No training is finished.", "the same command without --only-report trains")
    for reason, names in skipped.items():
        page.warn(f"Not trained ({'; '.join(names)}): {reason}")
    if old is None:
        page.missing("shift", "No run on the old survey was named.", "--old RUN")
    else:
        _add_shift(page, plan, *_scores(old, results.galaxies, device))
    counts = {name: len(getattr(results.galaxies, name)) for name in ("judging", "labels")}
    facts: dict[str, Any] = {**counts, "untouched": untouched}
    return page.write(
        "labels.md.j2",
        title="Labels needed in a new survey",
        subtitle="Networks from several starts, fine-tuned to few labels, judged on the same galaxies",
        facts={**facts, "skipped": dict(skipped)},
        **facts,
        data=results.galaxies.data.path.name,
        tree=results.galaxies.tree,
        settings={text.partition("=")[0]: text for text in plan.settings}.values(),
        command=shlex.join(command),
    )


def errors_over_labels(
    errors: Mapping[str, Mapping[int, Sequence[float]]], *, untouched: float | None
) -> Drawing:
    """Draw the mean RMSE of each start against the number of labels, with the standard deviation over seeds.

    `errors` map a start and a number of labels to the RMSE of each seed; `untouched` is that of `fork`
    without any. Returns means and deviations.
    """
    numbers, series = dict[str, Any](untouched=untouched), []
    for (start, by_number), style in zip(errors.items(), SERIES, strict=False):
        mean = np.array([np.mean(values) for values in by_number.values()])
        spread = np.array([_sd(values) for values in by_number.values()])
        numbers[start] = {"labels": [*by_number], "mean": mean, "sd": spread}
        ends = mean - np.nan_to_num(spread), mean + np.nan_to_num(spread)
        series.append(Series(start, [*by_number], mean, *ends, style))
    ticks = sorted({number for by_number in errors.values() for number in by_number})
    across = [] if untouched is None else [(untouched, "fork, no labels")]
    panel = Panel(series, "labels", "RMSE", log="x", xticks=ticks, horizontal=across)
    return curves([panel], size=(PAGE * 0.7, 3.0)), plain(numbers)


def _sd(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _table(plan: Plan, errors: Mapping[str, Mapping[int, Sequence[float]]]) -> Table:
    columns: list[Column] = [
        ("RMSE ± s.d. (seeds)", "", ""),
        *((f"{number:,} labels", partial(_errors_with, number=number), "") for number in plan.labels),
    ]
    return Table.of(errors, columns)


def _errors_with(by_number: Mapping[int, Sequence[float]], *, number: int) -> str | None:
    values = by_number.get(number)
    return f"{spread(values)} ({len(values)})" if values else None


def _add_shift(page: Page, plan: Plan, scores: Mapping[str, NDArray], held_out: NDArray) -> None:
    rows = {
        str(size): {
            name: {
                "warnings": sum(one.shifted for one in tests),
                "draws": len(tests),
                "distance": float(np.mean([one.distance for one in tests])),
            }
            for name, tests in by_survey.items()
        }
        for size, by_survey in warnings_of_shift(scores, held_out, plan.drawn, plan.draws).items()
    }
    columns: list[Column] = [
        ("galaxies", "", lambda size: f"{int(size):,}"),
        *((f"{name}: warned", name, "{0[warnings]} of {0[draws]}".format) for name in scores),
        *((f"{name}: distance", f"{name}.distance", ".3f") for name in scores),
    ]
    page.table("shift", Table.of(rows, columns))
