"""A recipe: everything that decides a run, as one flat, frozen list of settings.

Recipes are TOML. Those that come with hubblefork are named (`lab-cnn`); another is given by the
path of its file. Fields are overridden by `key=value`; every complaint is made at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from hubblefork.errors import RecipeError, did_you_mean
from hubblefork.stamps.preprocess import StampSpec

HEADS = ("sigmoid", "lab", "tree")
WATCHED = ("validation_rmse", "validation_agreement")


@dataclass(frozen=True)
class Recipe:
    """The settings of a run. Raises RecipeError, with all complaints at once, for values that cannot work.

    `pretrained` names the weights published by timm that the encoder starts from (empty: random ones).
    Stamps: `crop` original pixels become `stamp_size` pixels on disk, of which the network sees the
    central `input_size`. Augmentation: `rotation` in degrees either way, `flip` a probability, `shift`
    in stamp pixels either way, `zoom` a factor either way (log-uniform). Training: `steps` batches
    make an epoch (0: one pass over the galaxies); at most `epochs`; the learning rate is multiplied by
    `plateau_factor` after `plateau_patience` epochs without progress of `watch`, down to
    `plateau_floor`; training stops after `patience` epochs in which `watch` gained less than `min_delta`.
    """

    name: str
    about: str
    architecture: str
    pretrained: str = ""
    head: str = "sigmoid"
    crop: int = 212
    stamp_size: int = 64
    input_size: int = 64
    rotation: float = 0.0
    flip: float = 0.0
    shift: float = 0.0
    zoom: float = 1.0
    batch_size: int = 128
    epochs: int = 100
    steps: int = 200
    learning_rate: float = 1e-3
    plateau_factor: float = 0.5
    plateau_patience: int = 6
    plateau_floor: float = 1e-13
    watch: str = "validation_rmse"
    patience: int = 20
    min_delta: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        complaints = _complaints(self)
        if complaints:
            raise RecipeError(f"recipe {self.name!r}: " + "; ".join(complaints))

    @property
    def stamps(self) -> StampSpec:
        """The stamps this recipe needs."""
        return StampSpec(crop=self.crop, size=self.stamp_size)

    @property
    def augments(self) -> bool:
        """Whether training stamps are moved at all."""
        return bool(self.rotation or self.flip or self.shift or self.zoom != 1)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with hubblefork."""
    files = resources.files("hubblefork.network").joinpath("recipes").iterdir()
    return tuple(sorted(Path(file.name).stem for file in files if file.name.endswith(".toml")))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe by name or from a .toml file, with `key=value` overrides. Raises RecipeError."""
    recipe = parse_recipe(_recipe_text(name), origin=name)
    return override(recipe, overrides) if overrides else recipe


def parse_recipe(text: str, origin: str) -> Recipe:
    """Build a recipe from its TOML text. Raises RecipeError that names the origin and every complaint."""
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{origin}: not a recipe: {error}") from error
    needed = [field.name for field in fields(Recipe) if field.default is MISSING]
    complaints = [f"{name} is missing" for name in needed if name not in entries]
    complaints += _field_complaints(entries)
    if complaints:
        raise RecipeError(f"{origin}: " + "; ".join(complaints))
    return Recipe(**{key: _as_declared(key, value) for key, value in entries.items()})


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe with `key=value` settings applied. Raises RecipeError, all complaints at once."""
    pairs = [text.partition("=") for text in overrides]
    malformed = [f'"{key}" has no value: write {key}=value' for key, equals, _ in pairs if not equals]
    entries = {key.strip(): _value(text) for key, equals, text in pairs if equals}
    complaints = malformed + _field_complaints(entries)
    if complaints:
        raise RecipeError("; ".join(complaints))
    return replace(recipe, **{key: _as_declared(key, value) for key, value in entries.items()})


def recipe_text(recipe: Recipe) -> str:
    """Return the recipe in full as TOML."""
    return tomli_w.dumps(asdict(recipe))


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Say field by field how two recipes differ: "epochs: 3, not 100"."""
    a, b = asdict(one), asdict(other)
    return [f"{key}: {a[key]!r}, not {b[key]!r}" for key in a if a[key] != b[key]]


def _recipe_text(name: str) -> str:
    if name.endswith(".toml"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{name}: the recipe cannot be read: {error}") from error
    if name not in recipe_names():
        raise RecipeError(
            f'there is no recipe "{name}"{did_you_mean(name, recipe_names())}; '
            f"known are {', '.join(recipe_names())}, or give the path of a .toml file"
        )
    return (
        resources.files("hubblefork.network").joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")
    )


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _declared() -> dict[str, type]:
    kinds = {"str": str, "int": int, "float": float}
    return {field.name: kinds[str(field.type)] for field in fields(Recipe)}


def _field_complaints(entries: dict[str, Any]) -> list[str]:
    declared = _declared()
    complaints = []
    for key, value in entries.items():
        if key not in declared:
            complaints.append(f'a recipe has no field "{key}"{did_you_mean(key, declared)}')
        elif not _fits(value, declared[key]):
            complaints.append(f"{key} = {value!r} should be {declared[key].__name__}")
    return complaints


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _as_declared(key: str, value: Any) -> Any:
    return float(value) if _declared()[key] is float else value


def _complaints(recipe: Recipe) -> list[str]:
    at_least_one = (
        "crop",
        "stamp_size",
        "input_size",
        "batch_size",
        "epochs",
        "patience",
        "plateau_patience",
    )
    complaints = [
        f"{key} = {getattr(recipe, key)}, at least 1" for key in at_least_one if getattr(recipe, key) < 1
    ]
    not_negative = ("rotation", "shift", "steps", "min_delta", "plateau_floor", "seed")
    complaints += [
        f"{key} = {getattr(recipe, key)}, at least 0" for key in not_negative if getattr(recipe, key) < 0
    ]
    if recipe.input_size > recipe.stamp_size:
        complaints.append(f"input_size = {recipe.input_size}, at most stamp_size = {recipe.stamp_size}")
    if not 0 <= recipe.flip <= 1:
        complaints.append(f"flip = {recipe.flip}, a probability from 0 to 1")
    if recipe.zoom < 1:
        complaints.append(f"zoom = {recipe.zoom}, a factor of at least 1")
    if recipe.learning_rate <= 0:
        complaints.append(f"learning_rate = {recipe.learning_rate}, above 0")
    if not 0 < recipe.plateau_factor < 1:
        complaints.append(f"plateau_factor = {recipe.plateau_factor}, between 0 and 1")
    complaints += _choice("head", recipe.head, HEADS) + _choice("watch", recipe.watch, WATCHED)
    return complaints


def _choice(key: str, value: str, known: Sequence[str]) -> list[str]:
    if value in known:
        return []
    return [f'{key} = "{value}"{did_you_mean(value, known)}, one of {", ".join(known)}']
