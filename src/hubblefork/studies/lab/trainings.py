"""Which trainings the study needs, with which settings, in which folders."""

from __future__ import annotations

from collections.abc import Sequence

from hubblefork.errors import RecipeError
from hubblefork.network.recipe import HEADS, load_recipe
from hubblefork.studies.study import Training, check_addresses, settings_of

NETWORKS = ("lab-cnn", "lab-resnet50", "lab-resnet50-reweighted")
CURES = {"lab-resnet50": "lab-resnet50-augmented", "lab-cnn": "lab-cnn-augmented"}
ALL = (*NETWORKS, *CURES.values())
HEADS_ADDRESS, HEADS_RECIPE = "heads", "lab-cnn-augmented"
PRETRAINED = (*NETWORKS[1:], CURES["lab-resnet50"])
SAME_HEAD = "head=sigmoid"  # of the cured custom CNN: only its stamps are treated otherwise


def plan(*, seeds: int, settings: Sequence[str] = (), defaults: Sequence[str] = ()) -> list[Training]:
    """Return the trainings of the study in the order in which they run.

    `settings` are `key=value` for all of them, or `RECIPE:key=value` for one (`heads:key=value` for those
    that compare heads, of which each head has the seeds 0 to `seeds` - 1). An addressed setting wins;
    any of them wins over the `defaults`, which are written alike.
    Raises RecipeError for an address that is none, and as `load_recipe` does.
    """
    if seeds < 1:
        raise RecipeError(f"{seeds} seeds for each head: it takes at least 1")
    check_addresses(settings, (*ALL, HEADS_ADDRESS))

    def chosen(name: str) -> list[str]:
        head = [SAME_HEAD] if name == CURES["lab-cnn"] else []
        return head + settings_of(name, defaults) + settings_of(name, settings)

    named = [Training(name, load_recipe(name, chosen(name)), name in PRETRAINED) for name in ALL]
    return named + [
        Training(
            heads_folder(head, seed),
            load_recipe(HEADS_RECIPE, [*chosen(HEADS_ADDRESS), f"head={head}", f"seed={seed}"]),
        )
        for seed in range(seeds)
        for head in HEADS
    ]


def heads_folder(head: str, seed: int) -> str:
    """Return where the run of a head with a seed lies."""
    return f"{HEADS_ADDRESS}/{head}-seed{seed}"
