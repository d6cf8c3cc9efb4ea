"""The study from top to bottom: train what is missing, judge everything on the same galaxies, write the page.

OUT/runs/<network>             the trainings
OUT/tuning, OUT/folds          the trials of vgg7 with its best recipe; its cross validation
OUT/report/index.html          the page
OUT/sky, OUT/data              the mock sky of --quick
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hubblefork.api.folds import crossval
from hubblefork.api.judging import evaluate
from hubblefork.data.split import Split
from hubblefork.io import Progress, silent, write_text
from hubblefork.network.device import Hardware
from hubblefork.network.recipe import Recipe, load_recipe
from hubblefork.network.training import train
from hubblefork.network.tuning import tune
from hubblefork.studies.soft_target.inputs import read_study
from hubblefork.studies.soft_target.page import write_study_page
from hubblefork.studies.soft_target.plan import FOLDS, SIMPLE, TUNED, TUNING, Plan, make_plan
from hubblefork.studies.study import mock_data

MOCK_GALAXIES, MOCK_SPLIT = 240, Split(salt="demo", test=25, validation=20)
HOURS_2, SECONDS_90 = 7200.0, 90.0
QUICK = (
    "steps_per_epoch=4",
    "batch_size=16",
    "pretrained=",
    "tuning:epochs=2",
    "vgg11:hidden_units=256",
    "vgg16:hidden_units=256",
)


@dataclass(frozen=True)
class Ways:
    """How to run the study.

    `budget` is in seconds of training, all parts together (None: 2 hours, 90 seconds with `quick`). `quick`:
    a mock sky where no data are given, short epochs, no weights from the hub. `weights`: a file that the
    ResNets start from. `only_report`: train nothing; what is not trained is said to be missing.
    """

    budget: float | None = None
    settings: Sequence[str] = ()
    trials: int = 20
    folds: int = 5
    weights: Path | None = None
    device: str = ""
    quick: bool = False
    only_report: bool = False
    galaxies: int = MOCK_GALAXIES

    @property
    def seconds(self) -> float:
        """The budget, chosen where none is given."""
        return self.budget or (SECONDS_90 if self.quick else HOURS_2)


def run_soft_target(
    data: Path | None, out: Path, *, ways: Ways, command: Sequence[str] = (), progress: Progress = silent
) -> Path:
    """Run the whole study on a data folder; return the page. Called again it goes on where it stopped.

    `command` is what the page says made it. Raises CatalogueError where there are neither data nor `quick`,
    RunError where a folder holds a training of other settings (another budget is one), and as each
    stage does.
    """
    data = data or mock_data(
        out, quick=ways.quick, galaxies=ways.galaxies, test_galaxies=1, split=MOCK_SPLIT, progress=progress
    )
    settings = [*(QUICK if ways.quick else ()), *ways.settings]
    plan = make_plan(budget=ways.seconds, trials=ways.trials, folds=ways.folds, settings=settings)
    if not ways.only_report:
        _train_all(plan, data, out, ways, progress)
    study = read_study(data, out, plan, device=ways.device, progress=progress)
    return write_study_page(study, out / "report", command=command)


def _train_all(plan: Plan, data: Path, out: Path, ways: Ways, progress: Progress) -> None:
    for name, recipe in plan.recipes.items():
        weights = ways.weights if recipe.architecture.startswith("encoder:") else None
        _trained(data, recipe, out / "runs" / name, ways, progress, weights)
    best = _tuned(plan, data, out, ways, progress)
    if best is not None:
        _trained(data, plan.of_tuned(best), out / "runs" / TUNED, ways, progress)
    folded = plan.of_fold(plan.recipes[SIMPLE] if best is None else plan.of_tuned(best))
    hardware = Hardware(ways.device)
    crossval(data, folded, out / FOLDS, folds=plan.folds, hardware=hardware, progress=progress)


def _trained(
    data: Path, recipe: Recipe, run: Path, ways: Ways, progress: Progress, weights: Path | None = None
) -> None:
    train(data, recipe, run, weights=weights, device=ways.device, progress=progress)
    if not (run / "evaluation.json").exists():
        evaluate(run, device=ways.device, progress=progress)


def _tuned(plan: Plan, data: Path, out: Path, ways: Ways, progress: Progress) -> Recipe | None:
    """Return the recipe that tuning finds in its time; the time is spent once, not at every call."""
    folder = out / TUNING
    if not (folder / "spent").exists():
        tune(
            data,
            plan.tuned_from,
            folder,
            trials=plan.trials,
            seconds=plan.seconds[TUNING],
            hardware=Hardware(ways.device),
            progress=progress,
        )
        write_text(folder / "spent", "")
    return load_recipe(str(folder / "best.toml")) if (folder / "best.toml").exists() else None
