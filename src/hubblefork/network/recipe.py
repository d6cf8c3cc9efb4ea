"""A recipe: everything that decides a run, as one flat, frozen list of settings.

Recipes are TOML. Those that come with hubblefork are named (`lab-cnn`); another is given by the
path of its file. Fields are overridden by `key=value`; every complaint is made at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from hubblefork.data.stamps import StampSpec
from hubblefork.errors import RecipeError, did_you_mean
from hubblefork.network.architectures import ENCODER, Free, complaint_about
from hubblefork.network.augment import Augmentation

HEADS = ("sigmoid", "lab", "tree")
AT_LEAST = {
    **dict.fromkeys(("crop", "stamp_size", "input_size", "batch_size", "epochs", "patience"), 1),
    **dict.fromkeys(("plateau_patience", "tail_width"), 1),
    **dict.fromkeys(("rotation", "shift", "steps", "min_delta", "plateau_floor", "seed"), 0),
    **dict.fromkeys(("weight_decay", "warmup", "width", "tail_depth", "adapter_rank", "minutes"), 0),
}
CHANCES = ("flip", "rotation_chance", "shift_chance", "zoom_chance")
SHARES = ("dropout", "tail_dropout", "drop_path", "momentum", "average")
CHOICES = {
    "head": (*HEADS, "dieleman"),
    "watch": ("validation_rmse", "validation_agreement"),
    "optimiser": ("adam", "adamw", "muon", "sgd"),
    "schedule": ("plateau", "cosine", "one-cycle"),
    "precision": ("auto", "32", "bf16", "fp16"),
}
TEMPLATE = "resnet50"  # what a recipe named encoder:NAME has but for its encoder


@dataclass(frozen=True)
class Recipe:
    """The settings of a run. Raises RecipeError, with all complaints at once, for values that cannot work.

    Network: `architecture` is one of `architectures.KNOWN` or `encoder:NAME` of timm; `width`, `dropout`,
    `drop_path` and the fully connected tail (`tail_depth` layers of `tail_width`) are what an architecture
    leaves open, see `architectures.Free`. `pretrained` names the published weights that the encoder starts
    from (empty: random ones); with an `adapter_rank` these stay as they are and low-rank adapters are trained
    beside them.

    Stamps: `crop` original pixels become `stamp_size` pixels on disk, of which the network sees the
    central `input_size`. Augmentation: `rotation` in degrees either way, `shift` in stamp pixels either way,
    `zoom` a factor either way (log-uniform), each done to a galaxy with its `_chance`; `flip` is a chance.

    Training: `steps` batches make an epoch (0: one pass over the galaxies); at most `epochs`, and no epoch
    that would end after `minutes` (0: no limit). `schedule` of the learning rate: "plateau" multiplies it by
    `plateau_factor` after `plateau_patience` epochs without progress of `watch`, down to `plateau_floor`;
    "cosine" lets it fall to zero over all epochs, "one-cycle" rise and fall, both after `warmup` epochs of
    rising. Training stops after `patience` epochs in which `watch` gained less than `min_delta`.
    `optimiser` "sgd" has Nesterov's `momentum`; "muon" is AdamW but for the hidden layers' matrices. With
    an `average` (the decay of a step, 0: none) the weights that are judged and kept are the exponential
    moving average of those that are trained. With `centre` the kept weights' offsets are fitted once more,
    to the training galaxies that nobody selected (see `centring`).
    `precision` "auto" is what the device gains from; `compile` is torch.compile.
    """

    name: str
    about: str
    architecture: str
    pretrained: str = ""
    head: str = "sigmoid"
    crop: int = 212
    stamp_size: int = 64
    input_size: int = 64
    width: int = 0
    dropout: float = 0.0
    drop_path: float = 0.0
    tail_depth: int = 0
    tail_width: int = 512
    tail_dropout: float = 0.0
    adapter_rank: int = 0
    rotation: float = 0.0
    rotation_chance: float = 1.0
    flip: float = 0.0
    shift: float = 0.0
    shift_chance: float = 1.0
    zoom: float = 1.0
    zoom_chance: float = 1.0
    batch_size: int = 128
    epochs: int = 100
    steps: int = 200
    minutes: float = 0.0
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    average: float = 0.0
    schedule: str = "plateau"
    warmup: float = 0.0
    plateau_factor: float = 0.5
    plateau_patience: int = 6
    plateau_floor: float = 1e-13
    watch: str = "validation_rmse"
    patience: int = 20
    min_delta: float = 0.001
    centre: bool = False
    precision: str = "auto"
    compile: bool = False
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
    def free(self) -> Free:
        """What this recipe decides about the network."""
        return Free(**{field.name: getattr(self, field.name) for field in fields(Free)})

    @property
    def augmentation(self) -> Augmentation:
        """How training stamps are moved."""
        return Augmentation(**{field.name: getattr(self, field.name) for field in fields(Augmentation)})

    @property
    def augments(self) -> bool:
        """Whether training stamps are moved at all."""
        return self.augmentation != replace(self.augmentation, rotation=0, flip=0, shift=0, zoom=1)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with hubblefork."""
    files = resources.files("hubblefork.network").joinpath("recipes").iterdir()
    return tuple(sorted(Path(file.name).stem for file in files if file.name.endswith(".toml")))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe by name, from a .toml file or for `encoder:NAME` of timm, with `key=value` overrides.

    Raises RecipeError.
    """
    recipe = _of_encoder(name) if name.startswith(ENCODER) else parse_recipe(_recipe_text(name), origin=name)
    return override(recipe, overrides) if overrides else recipe


def parse_recipe(text: str, origin: str) -> Recipe:
    """Build a recipe from its TOML text. Raises RecipeError that names the origin and every complaint."""
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{origin}: not a recipe: {error}") from error
    needed = [field.name for field in fields(Recipe) if field.default is MISSING]
    complaints = [f"{name} is missing" for name in needed if name not in entries]
    complaints += field_complaints(entries)
    if complaints:
        raise RecipeError(f"{origin}: " + "; ".join(complaints))
    return Recipe(**{key: _as_declared(key, value) for key, value in entries.items()})


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe with `key=value` settings applied. Raises RecipeError, all complaints at once."""
    pairs = [text.partition("=") for text in overrides]
    malformed = [f'"{key}" has no value: write {key}=value' for key, equals, _ in pairs if not equals]
    entries = {key.strip(): _value(key.strip(), text) for key, equals, text in pairs if equals}
    complaints = malformed + field_complaints(entries)
    if complaints:
        raise RecipeError("; ".join(complaints))
    return override_values(recipe, entries)


def override_values(recipe: Recipe, entries: Mapping[str, Any]) -> Recipe:
    """Return the recipe with fields set, whole numbers as floats where a field is one. Raises RecipeError."""
    return replace(recipe, **{key: _as_declared(key, value) for key, value in entries.items()})


def recipe_text(recipe: Recipe) -> str:
    """Return the recipe in full as TOML."""
    return tomli_w.dumps(asdict(recipe))


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Say field by field how two recipes differ: "epochs: 3, not 100"."""
    a, b = asdict(one), asdict(other)
    return [f"{key}: {a[key]!r}, not {b[key]!r}" for key in a if a[key] != b[key]]


def _of_encoder(name: str) -> Recipe:
    encoder = name.removeprefix(ENCODER)
    about = f"timm's encoder {encoder}, from its published weights; all else as {TEMPLATE}"
    template = parse_recipe(_recipe_text(TEMPLATE), origin=TEMPLATE)
    return replace(template, name=name, about=about, architecture=name, pretrained=encoder)


def _recipe_text(name: str) -> str:
    if name.endswith(".toml"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{name}: the recipe cannot be read: {error}") from error
    if name not in recipe_names():
        raise RecipeError(
            f'there is no recipe "{name}"{did_you_mean(name, recipe_names())}; '
            f"known are {', '.join(recipe_names())}, or give {ENCODER}NAME or the path of a .toml file"
        )
    return (
        resources.files("hubblefork.network").joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")
    )


def _value(key: str, text: str) -> Any:
    if _declared().get(key) is str:
        return text.strip().strip('"')
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _declared() -> dict[str, type]:
    kinds = {"str": str, "int": int, "float": float, "bool": bool}
    return {field.name: kinds[str(field.type)] for field in fields(Recipe)}


def field_complaints(entries: Mapping[str, Any]) -> list[str]:
    """Say which entries are no fields of a recipe, with the nearest name, or of another type."""
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
        return kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _as_declared(key: str, value: Any) -> Any:
    return float(value) if _declared()[key] is float else value


def _complaints(recipe: Recipe) -> list[str]:
    entries = asdict(recipe)
    complaints = [
        f"{key} = {entries[key]}, at least {low}" for key, low in AT_LEAST.items() if not entries[key] >= low
    ]
    complaints += [
        f"{key} = {entries[key]}, a probability from 0 to 1" for key in CHANCES if not 0 <= entries[key] <= 1
    ]
    complaints += [
        f"{key} = {entries[key]}, from 0 to below 1" for key in SHARES if not 0 <= entries[key] < 1
    ]
    if recipe.input_size > recipe.stamp_size:
        complaints.append(f"input_size = {recipe.input_size}, at most stamp_size = {recipe.stamp_size}")
    if not recipe.zoom >= 1:
        complaints.append(f"zoom = {recipe.zoom}, a factor of at least 1")
    if not recipe.learning_rate > 0:
        complaints.append(f"learning_rate = {recipe.learning_rate}, above 0")
    if not 0 < recipe.plateau_factor < 1:
        complaints.append(f"plateau_factor = {recipe.plateau_factor}, between 0 and 1")
    for key, known in CHOICES.items():
        complaints += _choice(key, entries[key], known)
    return complaints + _about_network(recipe) + _about_schedule(recipe)


def _about_network(recipe: Recipe) -> list[str]:
    return complaint_about(recipe.architecture, recipe.free, adapters=recipe.adapter_rank > 0)


def _about_schedule(recipe: Recipe) -> list[str]:
    if recipe.warmup and recipe.schedule == "plateau":
        return [f"warmup = {recipe.warmup}, but the schedule plateau has none: cosine and one-cycle have"]
    if not recipe.warmup < recipe.epochs:
        return [f"warmup = {recipe.warmup}, below epochs = {recipe.epochs}"]
    return []


def _choice(key: str, value: str, known: Sequence[str]) -> list[str]:
    if value in known:
        return []
    return [f'{key} = "{value}"{did_you_mean(value, known)}, one of {", ".join(known)}']
