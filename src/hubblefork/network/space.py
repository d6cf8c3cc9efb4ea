"""The values that tuning searches for each field of a recipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from hubblefork.errors import RecipeError
from hubblefork.network.recipe import Recipe, entries_of, with_new_names


@dataclass(frozen=True)
class SearchRange:
    """The values of one recipe field to search: `choices`, or `low` to `high`, logarithmic if `log`."""

    field: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    def suggested(self, trial: Any) -> Any:
        """Return the value for a trial of Optuna."""
        if self.choices:
            return trial.suggest_categorical(self.field, self.choices)
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        suggest: Callable[..., Any] = trial.suggest_int if whole else trial.suggest_float
        return suggest(self.field, self.low, self.high, log=self.log)

    def problems(self, recipe: Recipe) -> list[str]:
        """Say why the recipe cannot have these values; nothing if it can."""
        problems = []
        for value in self.choices or (self.low, self.high):
            try:
                replace(recipe, **{self.field: value})
            except RecipeError as error:
                problems.append(str(error))
        return list(dict.fromkeys(problems))


def load_space(recipe: Recipe, path: Path | None = None) -> tuple[SearchRange, ...]:
    """Read the search space for a recipe from a TOML file, or the default one.

    Of the default space, the fields that the recipe's network does not have are left out. Raises RecipeError
    with all problems at once: fields that a recipe does not have, values that it cannot have.
    """
    if path is None:
        text = resources.files("hubblefork.network").joinpath("space.toml").read_text(encoding="utf-8")
        return tuple(entry for entry in parse_space(text, "space.toml") if not entry.problems(recipe))
    try:
        space = parse_space(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: the search space cannot be read: {error}") from error
    problems = [problem for entry in space for problem in entry.problems(recipe)]
    if problems:
        raise RecipeError(f"{path}: " + "; ".join(problems))
    return space


def parse_space(text: str, origin: str) -> tuple[SearchRange, ...]:
    """Read a search space from TOML. Raises RecipeError, all problems at once."""
    try:
        entries = entries_of(text)
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from error
    problems = [problem for key, entry in entries.items() for problem in _entry_problems(key, entry)]
    if problems or not entries:
        raise RecipeError(f"{origin}: " + ("; ".join(problems) or "there is no field in it to search"))
    return tuple(
        SearchRange(key, **{**entry, "choices": tuple(entry.get("choices", ()))})
        for key, entry in entries.items()
    )


def _entry_problems(key: str, entry: Any) -> list[str]:
    if not isinstance(entry, dict) or set(entry) - {"choices", "low", "high", "log"}:
        return [f"[{key}] holds choices, or low and high, and log: nothing else"]
    if "choices" in entry:
        valid = isinstance(entry["choices"], list) and entry["choices"] and set(entry) == {"choices"}
        return (
            [] if valid else [f"[{key}] choices is a list of at least one value, without low, high and log"]
        )
    low: Any = entry.get("low")
    high: Any = entry.get("high")
    if not all(type(bound) in (int, float) and math.isfinite(bound) for bound in (low, high)):
        return [f"[{key}] low and high are numbers: {low!r}, {high!r}"]
    if type(entry.get("log", False)) is not bool:
        return [f"[{key}] log is true or false: {entry['log']!r}"]
    if not low < high or (entry.get("log") and not low > 0):
        return [f"[{key}] low = {low}, high = {high}: low is below high, and above 0 with log"]
    return []


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with these values; an epoch shows as many galaxies as before. Raises RecipeError."""
    changed = replace(recipe, **with_new_names(values))
    if changed.steps_per_epoch and changed.batch_size != recipe.batch_size:
        steps = round(recipe.steps_per_epoch * recipe.batch_size / changed.batch_size)
        changed = replace(changed, steps_per_epoch=max(1, steps))
    return changed
