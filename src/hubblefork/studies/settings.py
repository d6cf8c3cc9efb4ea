"""Settings of a study's trainings: `key=value` for all of them, or `NAME:key=value` for one."""

from __future__ import annotations

from collections.abc import Sequence

from hubblefork.errors import RecipeError, did_you_mean


def settings_of(name: str, settings: Sequence[str]) -> list[str]:
    """Return the settings for one training: those for all, then its own, which win."""
    parted = [_parted(text) for text in settings]
    return [text for address, text in parted if not address] + [
        text for address, text in parted if address == name
    ]


def check_addresses(settings: Sequence[str], known: Sequence[str]) -> None:
    """Raise RecipeError for settings of a training that the study does not have, all complaints at once."""
    strangers = {address for address, _ in map(_parted, settings) if address and address not in known}
    if strangers:
        named = [f'"{name}"{did_you_mean(name, known)}' for name in sorted(strangers)]
        raise RecipeError(f"this study trains no {', no '.join(named)}; settings go to {', '.join(known)}")


def _parted(text: str) -> tuple[str, str]:
    """Return address and setting: "vgg7:epochs=3" → "vgg7", "epochs=3"."""
    key, equals, value = text.partition("=")
    address, _, name = key.rpartition(":")
    return address.strip(), f"{name}{equals}{value}"
