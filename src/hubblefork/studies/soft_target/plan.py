"""Which trainings the study makes, and how the budget is divided between them.

Every network gets the same time: what one can do on limited hardware is the question. The shares are of the
time for training; preparing stamps, judging and drawing come on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hubblefork.errors import RecipeError
from hubblefork.network.recipe import Recipe, load_recipe
from hubblefork.studies.study import check_addresses, settings_of

NETWORKS = ("vgg11", "vgg16", "resnet50", "resnet50-lora", "vgg7")
TUNED, TUNING, FOLDS = "vgg7-tuned", "tuning", "folds"
SIMPLE = "vgg7"
SHARES = {**dict.fromkeys((*NETWORKS, TUNED), 0.13), TUNING: 0.12, FOLDS: 0.10}
LONG = 10_000  # epochs: the time ends a training, not their number
COMMON = (f"epochs={LONG}", f"patience={LONG}", "steps_per_epoch=20")
TRIAL_EPOCHS = 6


@dataclass(frozen=True)
class Plan:
    """The study's recipes by name, the recipe that is tuned, the seconds of each part, trials and folds."""

    recipes: dict[str, Recipe]
    tuned_from: Recipe
    seconds: dict[str, float]
    trials: int
    folds: int

    def of_tuned(self, best: Recipe) -> Recipe:
        """Return the recipe that tuning found, for as long a training as the others have."""
        like = self.recipes[SIMPLE]
        return replace(
            best, name=TUNED, epochs=like.epochs, max_minutes=like.max_minutes, patience=like.patience
        )

    def of_fold(self, recipe: Recipe) -> Recipe:
        """Return a recipe for the time that a fold has."""
        return replace(recipe, max_minutes=self.seconds[FOLDS] / self.folds / 60)


def make_plan(*, budget: float, trials: int, folds: int, settings: Sequence[str] = ()) -> Plan:
    """Return the plan for a budget in seconds.

    `settings` are `key=value` for all trainings, or `NAME:key=value` for one of `NETWORKS` or "tuning".
    Raises RecipeError.
    """
    if not budget > 0:
        raise RecipeError(f"a budget of {budget} s: above 0")
    check_addresses(settings, (*NETWORKS, TUNING))
    seconds = {name: share * budget for name, share in SHARES.items()}
    recipes = {
        name: load_recipe(name, [*COMMON, f"max_minutes={seconds[name] / 60}", *settings_of(name, settings)])
        for name in NETWORKS
    }
    own = settings_of(SIMPLE, settings) + settings_of(TUNING, settings)
    tuned_from = load_recipe(SIMPLE, [*COMMON, f"epochs={TRIAL_EPOCHS}", *own])
    return Plan(recipes, tuned_from, seconds, trials, folds)
