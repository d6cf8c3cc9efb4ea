"""hubblefork: images of galaxies to calibrated Galaxy Zoo vote fractions, and to the science they allow.

    import hubblefork as hf
    catalogue = hf.predict("fork", "cutouts/", views=16, interval=0.9)
    hf.fraction(catalogue, "merger >= 0.3")

Every name below is imported when it is first used.
"""

from importlib import import_module
from typing import Any

from hubblefork.errors import extras

__version__ = "0.1.0"

_HOMES = {
    "DecisionTree": "zoo",
    "Galaxy": "api.galaxy",
    "GalaxyTable": "api.results",
    "Model": "api.predictions",
    "Recipe": "network.recipe",
    "Split": "data.split",
    "classify": "api.predictions",
    "count_votes": "tables.counts",
    "evaluate": "api.judging",
    "export": "api.training",
    "finetune": "api.training",
    "fraction": "api.fractions",
    "ingest": "api.skies",
    "load": "api.predictions",
    "mock_sky": "api.skies",
    "predict": "api.predictions",
    "report": "api.skies",
    "subject_set": "api.zooniverse",
    "train": "api.training",
    "tune": "api.training",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: PyTorch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with extras(f"hubblefork.{name}"):
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
