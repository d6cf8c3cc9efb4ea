"""A recipe: every setting that decides a training, as one flat, frozen list of validated fields.

Recipes are TOML. Those that come with hubblefork have names (`lab-cnn`); any other is given by the path of
its file. `key=value` overrides a field. An error names every problem at once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from hubblefork.errors import RecipeError, StampError, did_you_mean
from hubblefork.images.field import StampSpec
from hubblefork.io import Packaged
from hubblefork.network.architectures import ENCODER, NetworkOptions, checked_architecture, option_errors
from hubblefork.network.augment import LIGHT, Augmentation
from hubblefork.zoo import DecisionTree

OTHER = f"{ENCODER}NAME or the path of a .toml file"
RECIPES = Packaged("hubblefork.network", "recipes", "recipe", RecipeError, OTHER)
HEADS = ("sigmoid", "lab", "tree")
ALL, HEAD = "all", "head"
TEMPLATE = "resnet50"  # the recipe of encoder:NAME, except for the encoder
OLD_NAMES = {  # of fields, in recipes and weights that earlier versions wrote
    "about": "description",
    "average": "ema_decay",
    "centre": "fit_offsets",
    "minutes": "max_minutes",
    "plateau_floor": "min_learning_rate",
    "rotation_chance": "rotation_probability",
    "shift_chance": "shift_probability",
    "steps": "steps_per_epoch",
    "tail_depth": "hidden_layers",
    "tail_dropout": "hidden_dropout",
    "tail_width": "hidden_units",
    "warmup": "warmup_epochs",
    "watch": "monitor",
    "zoom_chance": "zoom_probability",
}


def _utf8(text: str) -> str:
    if text != text.encode("utf-8", "replace").decode("utf-8"):
        raise ValueError(f"{text!r} is no UTF-8 text")
    return text


def _stages(text: str) -> str:
    if not re.fullmatch(rf"{ALL}|{HEAD}|[1-9]\d{{0,3}}", text):
        raise ValueError(f'unfreeze = "{text}": {ALL}, {HEAD}, or how many stages before the head')
    return text


Text = Annotated[str, AfterValidator(_utf8)]
Positive = Annotated[int, Field(ge=1, lt=2**31)]
NotNegative = Annotated[int, Field(ge=0, lt=2**31)]
NotNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Recipe:
    """The settings of a training. Raises RecipeError, with all problems at once, for values that cannot work.

    Network: `architecture` is one of `architectures.ARCHITECTURES` or `encoder:NAME` of timm; `width`,
    `dropout`, `drop_path` and the hidden layers before the output are in `architectures.NetworkOptions`.
    `pretrained` names the published weights of the encoder (empty: random weights). With an `adapter_rank`
    the encoder's weights are frozen and low-rank adapters are trained. The `loss` "rmse" compares fractions;
    "votes" is the probability of vote counts, Dirichlet-multinomial with the `head` "dirichlet" and
    multinomial with "tree".

    What is trained: `unfreeze` is "all", "head" or the number of stages before the head that are trained with
    it (see `stages.stages_of`); in the first `frozen_epochs` only the head is. With `freeze_batch_norm` the
    means and variances of batch normalisation stay those of the start. The learning rate of each layer, or
    block as timm groups them, is `layer_decay` times that of the next (Howard & Ruder 2018, arXiv:1801.06146;
    Bao et al. 2021, arXiv:2106.08254).

    Stamps: `crop` original pixels, or so much of the sky ("30 arcsec"; "6 R90", Petrosian radii) around the
    galaxy, become `stamp_size` pixels on disk. The network sees the central `input_size` pixels, in three
    `bands`, or in their mean where that is 1. Augmentation: see `augment.Augmentation`.

    Training: an epoch has `steps_per_epoch` batches (0: one pass over the galaxies). Training ends after
    `epochs`, before an epoch that would end after `max_minutes` (0: no limit), or after `patience` epochs
    in which `monitor` improved by less than `min_delta`. The `schedule` "plateau" multiplies the learning
    rate by `plateau_factor` after `plateau_patience` epochs without progress of `monitor`, down to
    `min_learning_rate`; "cosine" decreases it to zero over all epochs; "one-cycle" increases and decreases
    it. The last two begin with `warmup_epochs` of increase. The `optimiser` "sgd" uses Nesterov's
    `momentum`; "muon" is AdamW except for the matrices of the hidden layers. With an `ema_decay` (per step;
    0: none) the exponential moving average of the weights is validated and saved. With `fit_offsets` the
    output offsets are fitted again after training (`postprocess`). `precision` "auto" is the fastest one of
    the device. `compile` uses torch.compile.
    """

    name: Text
    description: Text
    architecture: Annotated[Text, AfterValidator(checked_architecture)]
    pretrained: Text = ""
    head: Literal["sigmoid", "lab", "tree", "dirichlet", "dieleman"] = "sigmoid"
    loss: Literal["rmse", "votes"] = "rmse"
    crop: Positive | Text = 212
    stamp_size: Positive = 64
    input_size: Positive = 64
    bands: Literal[1, 3] = 3
    width: NotNegative = 0
    dropout: BelowOne = 0.0
    drop_path: BelowOne = 0.0
    hidden_layers: NotNegative = 0
    hidden_units: Positive = 512
    hidden_dropout: BelowOne = 0.0
    adapter_rank: NotNegative = 0
    unfreeze: Annotated[str, AfterValidator(_stages)] = ALL
    frozen_epochs: NotNegative = 0
    freeze_batch_norm: bool = False
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    rotation: NotNegativeFloat = 0.0
    rotation_probability: Probability = 1.0
    flip: Probability = 0.0
    shift: NotNegativeFloat = 0.0
    shift_probability: Probability = 1.0
    zoom: Annotated[float, Field(ge=1, le=100)] = 1.0
    zoom_probability: Probability = 1.0
    light_probability: Probability = 1.0
    blur: NotNegativeFloat = 0.0
    brightness: Annotated[float, Field(ge=1, le=100)] = 1.0
    colour: Annotated[float, Field(ge=1, le=100)] = 1.0
    grey: Probability = 0.0
    noise: NotNegativeFloat = 0.0
    batch_size: Positive = 128
    epochs: Positive = 100
    steps_per_epoch: NotNegative = 200
    max_minutes: NotNegativeFloat = 0.0
    optimiser: Literal["adam", "adamw", "muon", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    momentum: BelowOne = 0.9
    weight_decay: NotNegativeFloat = 0.0
    ema_decay: BelowOne = 0.0
    schedule: Literal["plateau", "cosine", "one-cycle"] = "plateau"
    warmup_epochs: NotNegativeFloat = 0.0
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    plateau_patience: Positive = 6
    min_learning_rate: NotNegativeFloat = 1e-13
    monitor: Literal["validation_rmse", "validation_agreement"] = "validation_rmse"
    patience: Positive = 20
    min_delta: NotNegativeFloat = 0.001
    fit_offsets: bool = False
    precision: Literal["auto", "32", "bf16", "fp16"] = "auto"
    compile: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="wrap")
    @classmethod
    def _plain_errors(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            recipe = handler(values)
            problems = recipe._problems()
        except ValidationError as error:
            problems = [_problem(dict(detail)) for detail in error.errors()]
        if problems:
            raise RecipeError(f"recipe {(values.kwargs or {}).get('name', '')!r}: {'; '.join(problems)}")
        return recipe

    def _problems(self) -> list[str]:
        """Say which fields contradict each other."""
        votes, plateau = self.loss == "votes", self.schedule == "plateau"
        light, one_band = self.augmentation.light, self.bands == 1
        changes = ", ".join(f"{name} = {value}" for name, value in light.items())
        contradictions = {
            f"input_size = {self.input_size}, at most stamp_size = {self.stamp_size}":
                self.input_size > self.stamp_size,
            f"shift = {self.shift}, at most stamp_size = {self.stamp_size}": self.shift > self.stamp_size,
            f"blur = {self.blur}, below a third of input_size = {self.input_size}":
                3 * self.blur > self.input_size - 1,
            f"noise = {self.noise}, at most 1, which is white: 10 of 255 is 0.039": self.noise > 1,
            f"light_probability = {self.light_probability}, but nothing changes the light; "
            f"{', '.join(LIGHT)} do": 0 < self.light_probability < 1 and not light,
            f"light_probability = {self.light_probability}, but {changes}; more than 0, or no such change":
                self.light_probability == 0 and bool(light),
            f"colour = {self.colour}, but bands = 1 has no colour; colour = 1, or bands = 3":
                one_band and self.colour != 1,
            f"grey = {self.grey}, but bands = 1 is grey; grey = 0, or bands = 3": one_band and self.grey > 0,
            f"loss = votes, but head = {self.head}; tree and dirichlet give vote probabilities":
                votes and self.head not in ("tree", "dirichlet"),
            f"head = dirichlet, but loss = {self.loss} teaches no concentrations; votes does":
                self.head == "dirichlet" and not votes,
            f"warmup_epochs = {self.warmup_epochs}, but the schedule plateau has no warmup; "
            "cosine and one-cycle have it": self.warmup_epochs > 0 and plateau,
            f"warmup_epochs = {self.warmup_epochs}, below epochs = {self.epochs}":
                not plateau and self.warmup_epochs >= self.epochs,
            f"frozen_epochs = {self.frozen_epochs}, below epochs = {self.epochs}":
                self.frozen_epochs >= self.epochs,
            f"frozen_epochs = {self.frozen_epochs}, but with unfreeze = {HEAD} all are":
                self.frozen_epochs > 0 and self.unfreeze == HEAD,
            f"unfreeze = {self.unfreeze}, but adapter_rank freezes the encoder":
                self.adapter_rank > 0 and self.unfreeze != ALL,
        }  # fmt: skip
        problems = option_errors(self.architecture, self.options, adapters=self.adapter_rank > 0)
        problems += [text for text, is_so in contradictions.items() if is_so]
        try:
            StampSpec(self.crop, self.stamp_size)
        except StampError as error:
            problems.append(str(error))
        return problems

    @property
    def stamps(self) -> StampSpec:
        """The stamps this recipe needs."""
        return StampSpec(crop=self.crop, size=self.stamp_size, bands=self.bands)

    def outputs(self, tree: DecisionTree) -> int:
        """Return the number of outputs: for each answer, and with concentrations for each question."""
        return len(tree.columns) + (len(tree.questions) if self.head == "dirichlet" else 0)

    @property
    def options(self) -> NetworkOptions:
        """The options of the network."""
        return NetworkOptions(**{field.name: getattr(self, field.name) for field in fields(NetworkOptions)})

    @property
    def augmentation(self) -> Augmentation:
        """The random changes of training stamps."""
        return Augmentation(**{field.name: getattr(self, field.name) for field in fields(Augmentation)})

    @property
    def augments(self) -> bool:
        """Whether training stamps are changed at all."""
        by = self.augmentation
        return by.relights or by != replace(by, rotation=0, flip=0, shift=0, zoom=1)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with hubblefork."""
    return RECIPES.names


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe by name, from a .toml file, or for `encoder:NAME` of timm; apply `key=value` overrides.

    A recipe with `base = "fork"` holds what differs from that one. Raises RecipeError.
    """
    if name.startswith(ENCODER):
        encoder = name.removeprefix(ENCODER)
        description = f"timm's encoder {encoder}, from its published weights; all else as {TEMPLATE}"
        recipe = replace(
            load_recipe(TEMPLATE), name=name, description=description, architecture=name, pretrained=encoder
        )
    else:
        text = RECIPES.text(name)
        recipe = _recipe(lambda: _on_base(entries_of(text), (name,)), origin=name)
    return override(recipe, overrides) if overrides else recipe


def parse_recipe(text: str, origin: str) -> Recipe:
    """Build a recipe from TOML, also of earlier versions. Raises RecipeError that names the origin."""
    return _recipe(lambda: entries_of(text), origin)


def _recipe(entries: Callable[[], dict[str, Any]], origin: str) -> Recipe:
    try:
        return Recipe(**entries())
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from error


def _on_base(entries: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the entries of a recipe and those of its base that it does not change.

    `names` are the recipe's, and before it those of the recipes that it is the base of. A base that is a file
    lies beside the recipe's own.
    """
    base = entries.pop("base", "")
    if not isinstance(base, str):
        raise RecipeError(f"base = {base!r}: the name of a recipe, or the path of a .toml file")
    if not base:
        return entries
    place = str(Path(names[-1]).parent / base) if base.endswith(".toml") else base
    if place in names:
        raise RecipeError(f"base = {base!r}: the recipe would be its own base")
    return _on_base(entries_of(RECIPES.text(place)), (*names, place)) | entries


def entries_of(text: str) -> dict[str, Any]:
    """Return the entries of TOML by present names. Raises RecipeError, also for what Python cannot hold."""
    try:
        return with_new_names(tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"not readable as TOML: {error}") from error


def with_new_names(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries with the field names of earlier versions replaced by today's.

    Raises RecipeError for a field that is there under both names.
    """
    twice = [
        f"{old} and {new} are the same field: give {new}"
        for old, new in OLD_NAMES.items()
        if {old, new} <= {*entries}
    ]
    if twice:
        raise RecipeError("; ".join(twice))
    return {OLD_NAMES.get(key, key): value for key, value in entries.items()}


def override(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe with `key=value` settings applied, also by the field names of earlier versions.

    Raises RecipeError, all problems at once.
    """
    entries, problems = {}, []
    for setting in [overrides] if isinstance(overrides, str) else overrides:
        key, equals, text = (part.strip() for part in setting.partition("="))
        key = OLD_NAMES.get(key, key)
        if equals:
            entries[key] = _value(text, getattr(recipe, key, None))
        else:
            problems.append(f'"{key}" has no value: write {key}=value')
    try:
        changed = replace(recipe, **entries)
    except RecipeError as error:
        problems.append(str(error))
    if problems:
        raise RecipeError("; ".join(problems))
    return changed


def recipe_text(recipe: Recipe) -> str:
    """Return the recipe in full as TOML."""
    return tomli_w.dumps(asdict(recipe))


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """List the fields in which two recipes differ: "epochs: 3, not 100"."""
    a, b = asdict(recipe), asdict(other)
    return [f"{key}: {a[key]!r}, not {b[key]!r}" for key in a if a[key] != b[key]]


def changed(recipe: Recipe) -> list[str]:
    """List what differs from the recipe of the package that gave the name; nothing where none did."""
    name = recipe.name.removesuffix("-finetuned")
    if name not in recipe_names() and not name.startswith(ENCODER):
        return []
    found = differences(recipe, load_recipe(name))
    return [text for text in found if not text.startswith(("name:", "description:"))]


def _value(text: str, current: Any) -> Any:
    """Return a setting's text as TOML reads it; as text where the field holds text now."""
    if isinstance(current, str):
        return text.strip('"')
    with suppress(RecipeError):
        entries = entries_of(f"value = {text}")
        if len(entries) == 1:
            return entries["value"]
    return text


def _problem(detail: Mapping[str, Any]) -> str:
    """Say in a clause what is wrong with a field, with the nearest name."""
    key, value, kind = str(detail["loc"][0]), detail["input"], detail["type"]
    if kind == "missing":
        return f"{key} is missing"
    if kind == "unexpected_keyword_argument":
        names = [field.name for field in fields(Recipe)]
        return f'a recipe has no field "{key}"{did_you_mean(key, names)}'
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    message = str(detail["msg"]).replace("Input ", "")
    choices = re.findall(r"'([^']+)'", detail["ctx"]["expected"]) if kind == "literal_error" else []
    return f"{key} = {_short(value)} {message}{did_you_mean(str(value), choices)}"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:60]}…"
