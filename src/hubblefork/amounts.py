"""Amounts as people write them: "2h", "90 min", "500 MB"."""

from __future__ import annotations

import re

from hubblefork.errors import RecipeError

SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def seconds(text: str) -> float:
    """Return how many seconds "90s", "10min", "1h 30min" or "2d" are. Raises RecipeError."""
    parts = re.findall(r"(\d+(?:\.\d*)?)\s*(s|min|m|h|d)(?![a-z])", text)
    rest = re.sub(r"(\d+(?:\.\d*)?)\s*(s|min|m|h|d)(?![a-z])", "", text).strip()
    total = sum(float(number) * SECONDS[unit] for number, unit in parts)
    if rest or not total > 0:
        raise RecipeError(f'"{text}" is no time above 0: write it as 90s, 10min, 2h or 1h30min')
    return total


def bytes_of(text: str) -> int:
    """Return how many bytes "500MB", "1.5 GB" or "2GiB" are. Raises RecipeError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kKmMgG]?i?[bB])\s*", text)
    if not found or not float(found[1]) > 0:
        raise RecipeError(f'"{text}" is no amount of memory above 0: write it as 500MB, 2GB or 2GiB')
    return int(float(found[1]) * BYTES[found[2].upper()])


def duration(value: float) -> str:
    """Return seconds for reading: "1 h 5 min", "2 min 30 s", "4.2 s"."""
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{value:.1f} s"
