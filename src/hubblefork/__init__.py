"""hubblefork: images of galaxies to calibrated Galaxy Zoo vote fractions, and to the science they allow.

    import hubblefork as hf
    catalogue = hf.predict("fork", "cutouts/", views=16, interval=0.9)
    hf.fraction(catalogue, "merger >= 0.3")

Every name below is imported when it is first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "DecisionTree": "zoo",
    "Galaxy": "api.results",
    "GalaxyTable": "api.results",
    "Model": "api.models",
    "Recipe": "network.recipe",
    "Split": "data.split",
    "classify": "api.models",
    "evaluate": "api.judging",
    "export": "api.models",
    "finetune": "api.models",
    "fraction": "api.fractions",
    "ingest": "api.skies",
    "load": "api.models",
    "mock_sky": "api.skies",
    "predict": "api.models",
    "report": "api.skies",
    "train": "api.models",
    "tune": "api.models",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: PyTorch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
