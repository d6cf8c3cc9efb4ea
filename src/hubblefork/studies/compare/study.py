"""The study from top to bottom: train what is nowhere yet, judge all of it alike, write the page.

OUT/runs/<recipe>/seed-<k>, OUT/runs/<recipe>/share-<s>/seed-<k>      the trainings
OUT/judged/<digest of the weights>                                    predictions and speed of each run
OUT/report/index.html                                                 the page
OUT/sky, OUT/data                                                     the mock sky of --quick
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hubblefork.data.split import TRAIN, Split
from hubblefork.io import Progress, silent
from hubblefork.network.predict import check_views
from hubblefork.studies.compare.inputs import find_runs, read_sky, read_study
from hubblefork.studies.compare.page import write_study_page
from hubblefork.studies.compare.plan import Wanted, make_plan
from hubblefork.studies.study import mock_data, train_all

VIEWS = 16
MOCK_GALAXIES, MOCK_SPLIT = 360, Split(salt="demo", test=25, validation=20)
FROM_THE_HUB = (
    "lab-resnet50",
    "lab-resnet50-augmented",
    "lab-resnet50-reweighted",
    "resnet50",
    "resnet50-lora",
)
QUICK = ("epochs=3", "steps_per_epoch=8", "batch_size=16", *(f"{name}:pretrained=" for name in FROM_THE_HUB))


@dataclass(frozen=True)
class Ways:
    """How to run the study: what is compared, runs that are there already, views at prediction.

    `quick`: a mock sky where no data are given, short trainings, no weights from the hub. `weights`: a file
    that networks with published weights start from. `only_report`: train nothing; what is not trained is said
    to be missing.
    """

    wanted: Wanted = field(default_factory=Wanted)
    runs: Sequence[Path] = ()
    views: int = VIEWS
    weights: Path | None = None
    device: str = ""
    quick: bool = False
    only_report: bool = False
    galaxies: int = MOCK_GALAXIES


def run_compare(
    data: Path | None, out: Path, *, ways: Ways, command: Sequence[str] = (), progress: Progress = silent
) -> Path:
    """Run the whole study on a data folder; return the page. Called again it goes on where it stopped.

    `command` is what the page says made it. Raises CatalogueError where there are neither data nor `quick`,
    RunError for views that are neither 1 nor even or where OUT/runs holds a training of other settings, and
    as each stage does.
    """
    check_views(ways.views)
    data = data or mock_data(
        out, quick=ways.quick, galaxies=ways.galaxies, test_galaxies=1, split=MOCK_SPLIT, progress=progress
    )
    sky = read_sky(data)
    plan = make_plan(ways.wanted, galaxies=len(sky.rows[TRAIN]), defaults=QUICK if ways.quick else ())
    found = find_runs(plan.all, sky, ways.runs)
    if not ways.only_report:
        left = [training for training in plan.all if training.folder not in found]
        train_all(left, data, out / "runs", weights=ways.weights, device=ways.device, progress=progress)
    views = sorted({1, ways.views})
    study = read_study(sky, out, plan, found=found, views=views, device=ways.device, progress=progress)
    return write_study_page(study, out / "report", command=command)
