"""Which networks are compared: recipes, each with its seeds, some on fewer galaxies, some as an ensemble."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from hubblefork.errors import RecipeError, did_you_mean
from hubblefork.network.recipe import Recipe, load_recipe
from hubblefork.studies.study import Training, check_addresses, settings_of

RECIPES = ("lab-cnn", "lab-resnet50", "vgg7", "views", "fork")


@dataclass(frozen=True)
class Wanted:
    """What is asked for, as it is typed.

    `recipes` as `load_recipe` takes them. `seeds`: how many each has, `N` for all or `RECIPE:N` for one.
    `settings`: `key=value` or `RECIPE:key=value`. `ensembles`: the recipes whose seeds are averaged,
    `curves`: those that are trained on each of `shares` ("1/8,1/4,1/2,1") of the training galaxies too.
    """

    recipes: Sequence[str] = RECIPES
    seeds: Sequence[str] = ("3",)
    settings: Sequence[str] = ()
    ensembles: Sequence[str] = ()
    curves: Sequence[str] = ()
    shares: str = "1/8,1/4,1/2,1"


@dataclass(frozen=True)
class Plan:
    """The trainings of each recipe on each share of the training galaxies, by name and share."""

    trainings: dict[tuple[str, float], list[Training]]
    ensembles: tuple[str, ...]
    curves: tuple[str, ...]
    shares: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The recipes that are compared."""
        return tuple(name for name, share in self.trainings if share == 1)

    @property
    def all(self) -> list[Training]:
        """Every training, those on all galaxies first."""
        return [training for seeds in self.trainings.values() for training in seeds]


def make_plan(wanted: Wanted, *, galaxies: int, defaults: Sequence[str] = ()) -> Plan:
    """Return the trainings that are wanted, where there are so many training galaxies.

    `defaults` are settings that any other wins over. Where an epoch is one pass over the galaxies, a training
    on a share of them has the square root of the share of its steps. Raises RecipeError.
    """
    recipes = _recipes(wanted, defaults)
    for names in (wanted.ensembles, wanted.curves):
        _check_known(names, tuple(recipes))
    check_addresses(wanted.seeds, tuple(recipes))
    shares = parse_shares(wanted.shares)
    wanted_shares = [(name, 1.0) for name in recipes]
    wanted_shares += [(name, share) for name in wanted.curves for share in shares if share < 1]
    trainings = {
        (name, share): [
            _training(replace(recipes[name], seed=seed), share, galaxies)
            for seed in range(_seeds(name, wanted.seeds))
        ]
        for name, share in wanted_shares
    }
    return Plan(trainings, tuple(wanted.ensembles), tuple(wanted.curves), shares)


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the shares that "1/8,1/4,1" names, the smallest first. Raises RecipeError."""
    try:
        found = sorted({float(Fraction(part.strip())) for part in text.split(",")})
    except (ValueError, ZeroDivisionError):
        found = [0.0]
    if not 0 < found[0] <= found[-1] <= 1:
        raise RecipeError(f'shares "{text}": above 0 and at most 1, written as 1/8,1/4,1/2,1')
    return tuple(found)


def _recipes(wanted: Wanted, defaults: Sequence[str]) -> dict[str, Recipe]:
    names = {text: load_recipe(text).name for text in wanted.recipes}
    if len(set(names.values())) < len(wanted.recipes):
        raise RecipeError(f"recipes {', '.join(wanted.recipes)}: each is compared once, give it once")
    check_addresses(wanted.settings, tuple(names.values()))
    return {
        name: load_recipe(text, [*settings_of(name, defaults), *settings_of(name, wanted.settings)])
        for text, name in names.items()
    }


def _check_known(names: Sequence[str], known: Sequence[str]) -> None:
    strangers = [f'"{name}"{did_you_mean(name, known)}' for name in names if name not in known]
    if strangers:
        raise RecipeError(f"{', '.join(strangers)}: not among the recipes compared, {', '.join(known)}")


def _seeds(name: str, seeds: Sequence[str]) -> int:
    text = settings_of(name, seeds)[-1]
    if not text.isdecimal() or int(text) < 1:
        raise RecipeError(f'seeds "{text}" of {name}: how many, at least 1')
    return int(text)


def _training(recipe: Recipe, share: float, galaxies: int) -> Training:
    smaller = "" if share == 1 else f"/share-{share:.4g}"
    if share < 1 and not recipe.steps_per_epoch:
        recipe = replace(recipe, steps_per_epoch=math.ceil(math.sqrt(share) * galaxies / recipe.batch_size))
    return Training(f"{recipe.name}{smaller}/seed-{recipe.seed}", recipe, bool(recipe.pretrained), share)
