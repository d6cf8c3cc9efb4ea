"""hubblefork: images of galaxies to calibrated Galaxy Zoo vote fractions, and to the science they allow."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `classify` when it is asked for: PyTorch takes seconds, and every room imports this module."""
    if name != "classify":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("hubblefork.api.classify").classify
