"""hubblefork: images of galaxies to calibrated Galaxy Zoo vote fractions, and to the science they allow."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "classify"]


def __getattr__(name: str) -> Any:
    """Import `classify` when it is asked for: PyTorch takes seconds."""
    if name != "classify":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hubblefork.judging.classify import classify

    return classify
