"""A study of networks: what is trained, how it is judged, and what all studies share.

`load_study` reads a study from a TOML file of this package. A study keeps below its folder OUT:

runs/<folder of the training>       the trainings
judged/<digest of the weights>      predictions and speed of each run (see `studies.results`)
sky, data                           the mock sky of `quick`
"""

from __future__ import annotations

import gc
import json
import math
import shutil
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa

from hubblefork.api import judging
from hubblefork.data.folders import DataFolder, RunFolder
from hubblefork.data.ingest import ingest
from hubblefork.data.split import Split, read_split, write_split
from hubblefork.errors import CatalogueError, RecipeError, did_you_mean
from hubblefork.io import Progress, replacing, silent, write_text
from hubblefork.mock import write_mock_sky
from hubblefork.network.device import device_of
from hubblefork.network.recipe import Recipe, load_recipe
from hubblefork.network.training import train
from hubblefork.prediction.predictor import check_views
from hubblefork.tables.catalogue import labelled
from hubblefork.zoo import load_tree

TUNING = "tuning"
MOCK_SPLIT = Split(salt="demo", test=25, validation=20)
Key = tuple[str, float]


@dataclass(frozen=True)
class Study:
    """What a study trains, on which galaxies, and how it runs.

    - `recipes`: as `load_recipe` takes them; `seeds`: trainings of each, `N` for all or `RECIPE:N` for one;
    - `settings`: `key=value` or `RECIPE:key=value`; they win over `defaults`;
    - `ensembles`: recipes whose seeds are averaged too; `curves`: recipes that are trained on each of
      `shares` ("1/8,1/4,1/2,1") of the training galaxies too;
    - `views` of each galaxy at prediction; `evaluate`: evaluate each run in its own folder, with one view;
    - `folder` of a training below OUT/runs; `runs`: folders whose finished runs are used where they are the
      same training;
    - `budget`: seconds of training, of which `parts` are the shares by name; `trials` of tuning, `folds`;
    - `weights`: a file that networks with published weights start from; `device`;
    - `quick`: short trainings, on a mock sky of `galaxies` where no data are given;
    - `only_report`: train nothing, and say what is missing.

    Raises RecipeError or RunError for values that no stage can work with, before anything is made.
    """

    recipes: Sequence[str]
    seeds: Sequence[str] = ("1",)
    settings: Sequence[str] = ()
    defaults: Sequence[str] = ()
    ensembles: Sequence[str] = ()
    curves: Sequence[str] = ()
    shares: str = "1"
    views: int = 1
    evaluate: bool = False
    folder: str = "{name}{share}/seed-{seed}"
    runs: Sequence[Path] = ()
    budget: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    trials: int = 20
    folds: int = 5
    weights: Path | None = None
    device: str = ""
    quick: bool = False
    only_report: bool = False
    galaxies: int = 240

    def __post_init__(self) -> None:
        if self.budget is not None and not self.budget > 0:
            raise RecipeError(f"a budget of {self.budget} s: above 0")
        if self.trials < 1 or self.folds < 2:
            raise RecipeError(f"{self.trials} trials, {self.folds} folds: at least 1 trial and 2 folds")
        parse_shares(self.shares)
        check_views(self.views)
        device_of(self.device)
        self.trainings(galaxies=1)

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of training of each part of the budget."""
        return {name: share * (self.budget or 0) for name, share in self.parts.items()}

    def trainings(self, galaxies: int) -> dict[Key, list[Training]]:
        """Return the seeds of each recipe on each share of so many training galaxies, by name and share.

        Where an epoch is one pass over the galaxies, a training on a share of them has the square root of the
        share of its steps. Raises RecipeError.
        """
        recipes = self._recipes()
        for names in (self.ensembles, self.curves):
            unknown = [f'"{name}"{did_you_mean(name, recipes)}' for name in names if name not in recipes]
            if unknown:
                raise RecipeError(
                    f"{', '.join(unknown)}: not among the recipes compared, {', '.join(recipes)}"
                )
        check_addresses(self.seeds, tuple(recipes))
        seeds = {name: self._seeds(name) for name in recipes}
        keys = [(name, 1.0) for name in recipes]
        keys += [(name, share) for name in self.curves for share in parse_shares(self.shares) if share < 1]
        return {
            (name, share): [self._training(recipes[name], seed, share, galaxies) for seed in seeds[name]]
            for name, share in keys
        }

    def _recipes(self) -> dict[str, Recipe]:
        names = {text: load_recipe(text).name for text in self.recipes}
        if len(set(names.values())) < len(self.recipes):
            raise RecipeError(f"recipes {', '.join(self.recipes)}: each is compared once, give it once")
        check_addresses(self.settings, (*names.values(), *(TUNING for part in self.parts if part == TUNING)))
        return {name: load_recipe(text, self.settings_of(name)) for text, name in names.items()}

    def settings_of(self, name: str) -> list[str]:
        """Return the settings of one training: defaults, its time, then what the user set."""
        limit = [f"max_minutes={self.seconds[name] / 60}"] if name in self.seconds else []
        return [*settings_of(name, self.defaults), *limit, *settings_of(name, self.settings)]

    def _seeds(self, name: str) -> range:
        text = settings_of(name, self.seeds)[-1]
        if not text.isdecimal() or int(text) < 1:
            raise RecipeError(f'seeds "{text}" of {name}: how many, at least 1')
        return range(int(text))

    def _training(self, recipe: Recipe, seed: int, share: float, galaxies: int) -> Training:
        if "{seed}" in self.folder:
            recipe = replace(recipe, seed=seed)
        if share < 1 and not recipe.steps_per_epoch:
            steps = math.ceil(math.sqrt(share) * galaxies / recipe.batch_size)
            recipe = replace(recipe, steps_per_epoch=steps)
        smaller = "" if share == 1 else f"/share-{share:.4g}"
        folder = self.folder.format(name=recipe.name, share=smaller, seed=seed)
        return Training(folder, recipe, bool(recipe.pretrained), share)

    def mock_sky(self, out: Path, progress: Progress) -> Path:
        """Return the data folder of the study's mock sky below OUT. Raises CatalogueError unless `quick`."""
        return mock_data(
            out,
            quick=self.quick,
            galaxies=self.galaxies,
            test_galaxies=1,
            split=MOCK_SPLIT,
            progress=progress,
        )


def load_study(name: str, *, quick: bool = False, **changes: Any) -> Study:
    """Return the study `name`; `changes` to its fields count where they are neither None nor empty lists."""
    given = {key: value for key, value in changes.items() if value not in (None, [])}
    return Study(**{**read_entries(name, quick=quick, adding="defaults"), **given, "quick": quick})


def read_entries(name: str, *, quick: bool, adding: str) -> dict[str, Any]:
    """Return the entries of a study's file.

    With `quick` the table [quick] wins over the others; its entry `adding` is added to theirs.
    """
    text = resources.files("hubblefork.studies").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text)
    short = entries.pop("quick")
    return {**entries, **short, adding: [*entries.get(adding, []), *short[adding]]} if quick else entries


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the shares that "1/8,1/4,1" names, the smallest first. Raises RecipeError."""
    try:
        shares = sorted({float(Fraction(part.strip())) for part in text.split(",")})
    except (ValueError, ZeroDivisionError):
        shares = [0.0]
    if not 0 < shares[0] <= shares[-1] <= 1:
        raise RecipeError(f'shares "{text}": above 0 and at most 1, written as 1/8,1/4,1/2,1')
    return tuple(shares)


@dataclass(frozen=True)
class Training:
    """One training: its folder below those of all, its recipe, and what it begins with.

    `pretrained`: whether it begins with given weights where there are any. `share`: the share of the training
    galaxies that it has.
    """

    folder: str
    recipe: Recipe
    pretrained: bool = False
    share: float = 1.0


def train_all(
    trainings: Sequence[Training],
    data: Path,
    runs: Path,
    *,
    weights: Path | None = None,
    device: str = "",
    evaluate: bool = False,
    progress: Progress = silent,
) -> None:
    """Train what is not trained yet, and `evaluate` it.

    Raises RunError where a folder holds a run of other settings.
    """
    split = read_split(data)
    for training in trainings:
        train(
            data,
            training.recipe,
            runs / training.folder,
            weights=weights if training.pretrained else None,
            device=device,
            split=replace(split, train_share=training.share),
            progress=progress,
        )
        if evaluate and not RunFolder(runs / training.folder).is_evaluated():
            judging.evaluate(runs / training.folder, device=device, progress=progress)
        gc.collect()  # a trainer and its network refer to each other: a ResNet's worth of memory each


def settings_of(name: str, settings: Sequence[str]) -> list[str]:
    """Return the settings for one training: `key=value` for all, then its own `NAME:key=value`, which win."""
    parts = [_address_and_setting(text) for text in settings]
    return [text for place in ("", name) for address, text in parts if address == place]


def check_addresses(settings: Sequence[str], names: Sequence[str]) -> None:
    """Raise RecipeError for settings of trainings that the study does not have, all of them at once."""
    addresses = {address for address, _ in map(_address_and_setting, settings)}
    unknown = sorted(addresses - {"", *names})
    if unknown:
        listed = ", no ".join(f'"{name}"{did_you_mean(name, names)}' for name in unknown)
        raise RecipeError(f"this study trains no {listed}; settings go to {', '.join(names)}")


def _address_and_setting(text: str) -> tuple[str, str]:
    """Return address and setting: "vgg7:epochs=3" → "vgg7", "epochs=3"."""
    key, equals, value = text.partition("=")
    address, _, name = key.rpartition(":")
    return address.strip(), f"{name}{equals}{value}"


def mock_data(
    out: Path, *, quick: bool, galaxies: int, test_galaxies: int, split: Split, progress: Progress = silent
) -> Path:
    """Return the data folder OUT/data of the mock sky OUT/sky; make each where it is not there.

    Raises CatalogueError unless the study is `quick`: then it needs data, and the message says so.
    """
    if not quick:
        raise CatalogueError(
            "the study needs a data folder: --data data/, as `hubblefork ingest` writes it, or --quick for "
            "a mock sky"
        )
    sky, data = out / "sky", out / "data"
    if not (sky / "truth.parquet").exists():
        write_mock_sky(sky, galaxies=galaxies, test_galaxies=test_galaxies, seed=0, progress=progress)
    if not (data / "split.toml").exists():
        ingest([sky], data, tree=load_tree(), progress=progress)
        write_split(split, data)
    return data


def labelled_catalogue(data: DataFolder) -> pa.Table:
    """Read the catalogue of a data folder. Raises CatalogueError, also where no galaxy has a label."""
    table = data.catalogue()
    if not labelled(table, data.tree()).any():
        raise CatalogueError(
            f"{data.path}: no galaxy has a label, so no network can be judged; ingest the table of labels too"
        )
    return table


def copy_record(report: Path, out: Path, *, without: Collection[str] = ()) -> None:
    """Copy the PDF figures and `numbers.json` of a page; leave out the figures named in `without`.

    What shows galaxies may not be published everywhere; the rest may. Raises DiskError.
    """
    numbers = json.loads((report / "numbers.json").read_text(encoding="utf-8"))
    for section in numbers["sections"].values():
        for name in set(section).intersection(without):
            del section[name]
    write_text(out / "numbers.json", json.dumps(numbers, allow_nan=False) + "\n")
    for figure in sorted(report.glob("*.pdf")):
        if figure.stem not in without:
            with replacing(out / figure.name) as temporary:
                shutil.copyfile(figure, temporary)
