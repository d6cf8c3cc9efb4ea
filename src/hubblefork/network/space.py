"""The space that tuning searches: a table of recipe fields with their choices or ranges."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from hubblefork.errors import RecipeError
from hubblefork.network.recipe import Recipe, with_new_names


class Suggests(Protocol):
    """What a trial of Optuna can be asked."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Choose one."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Choose a whole number."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a number."""


@dataclass(frozen=True)
class Dial:
    """One field to search: `choices`, or a range from `low` to `high`, by ratio if `log`."""

    field: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False

    def turned(self, trial: Suggests) -> Any:
        """Return the value that a trial gives it."""
        if self.choices:
            return trial.suggest_categorical(self.field, self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.field, self.low, self.high, log=self.log)
        return trial.suggest_float(self.field, self.low, self.high, log=self.log)

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that a recipe has to be able to take: the choices, or both ends."""
        return self.choices or (self.low, self.high)


def load_space(recipe: Recipe, path: Path | None = None) -> tuple[Dial, ...]:
    """Read the table of a TOML file, or the one that comes with hubblefork, for a recipe.

    Of hubblefork's own, the fields that the recipe's network does not leave open are left out. Raises
    RecipeError with all complaints at once: fields that a recipe does not have, values that it cannot take.
    """
    if path is None:
        text = resources.files("hubblefork.network").joinpath("space.toml").read_text(encoding="utf-8")
        return tuple(dial for dial in parse_space(text, "space.toml") if not _complaints(dial, recipe))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: the space to search cannot be read: {error}") from error
    dials = parse_space(text, str(path))
    complaints = [complaint for dial in dials for complaint in _complaints(dial, recipe)]
    if complaints:
        raise RecipeError(f"{path}: " + "; ".join(complaints))
    return dials


def parse_space(text: str, origin: str) -> tuple[Dial, ...]:
    """Read a table of dials from TOML. Raises RecipeError, all complaints at once."""
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{origin}: not a space to search: {error}") from error
    complaints = [complaint for key, entry in entries.items() for complaint in _entry_complaints(key, entry)]
    if complaints or not entries:
        raise RecipeError(f"{origin}: " + ("; ".join(complaints) or "there is no field in it to search"))
    return tuple(
        Dial(key, **{**entry, "choices": tuple(entry.get("choices", ()))}) for key, entry in entries.items()
    )


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with searched values; an epoch of steps shows as many galaxies as before.

    Raises RecipeError.
    """
    found = replace(recipe, **with_new_names(values))
    if found.steps_per_epoch and found.batch_size != recipe.batch_size:
        found = replace(
            found,
            steps_per_epoch=max(1, round(recipe.steps_per_epoch * recipe.batch_size / found.batch_size)),
        )
    return found


def _entry_complaints(key: str, entry: Any) -> list[str]:
    if not isinstance(entry, dict) or set(entry) - {"choices", "low", "high", "log"}:
        return [f"[{key}] holds choices, or low and high, and log: nothing else"]
    if "choices" in entry:
        fine = isinstance(entry["choices"], list) and entry["choices"] and set(entry) == {"choices"}
        return [] if fine else [f"[{key}] choices is a list of at least one value, and stands alone"]
    low, high = entry.get("low"), entry.get("high")
    if not (isinstance(low, int | float) and isinstance(high, int | float)):
        return [f"[{key}] low and high are numbers: {low!r}, {high!r}"]
    if not low < high or (entry.get("log") and not low > 0):
        return [f"[{key}] low = {low}, high = {high}: low is below high, and above 0 with log"]
    return []


def _complaints(dial: Dial, recipe: Recipe) -> list[str]:
    problems = []
    for value in dial.ends:
        try:
            replace(recipe, **{dial.field: value})
        except RecipeError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))
