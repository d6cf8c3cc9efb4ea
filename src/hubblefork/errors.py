"""What can go wrong, as one family of exceptions.

    HubbleforkError
    ├── TreeError           a decision tree that contradicts itself
    │   └── UnknownAnswer   a name that is no answer of the tree
    ├── CatalogueError      a table that cannot be read, joined or trusted
    ├── ImageError          an image, archive or folder of images that cannot be read
    ├── StampError          stamps prepared in another way than the one asked for
    ├── RecipeError         a recipe or a field of one that does not exist or does not fit
    │   └── ExtraMissing    a recipe or verb that needs a package which is not installed
    ├── RunError            a run folder that is incomplete or of another recipe
    │   └── DivergedError   a training whose error is no longer a number
    ├── DownloadError       a file that could not be fetched, or is not the file expected
    ├── SampError           a table that no other program took
    ├── BusyError           an output that another process is writing
    └── DiskError           a file that could not be written

Every message says what happened, with which value, what is allowed and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

EXTRAS = {
    **dict.fromkeys(("torch", "lightning", "timm", "safetensors", "onnx", "onnxscript"), "train"),
    "galsim": "mock",
    "openvino": "openvino",
    "optuna": "tune",
    "peft": "lora",
    **dict.fromkeys(("h5py", "zarr", "imagecodecs"), "arrays"),
    **dict.fromkeys(("fsspec", "aiohttp", "s3fs", "gcsfs"), "remote"),
    "ray": "ray",
    **dict.fromkeys(("fastapi", "uvicorn", "duckdb", "umap", "plotly"), "gallery"),
    **dict.fromkeys(("hats_import", "dask"), "hats"),
}
"""Packages that not every user needs, and the extra that installs each."""


class HubbleforkError(Exception):
    """The family's head: catch this to catch every error meant for a user."""

    def __str__(self) -> str:
        """Return the message as UTF-8 can write it: bytes of a name that are none as escapes."""
        return super().__str__().encode("utf-8", "backslashreplace").decode("utf-8")


class TreeError(HubbleforkError):
    """A decision tree that contradicts itself."""


class UnknownAnswer(TreeError):
    """A name that is no answer of the decision tree."""


class CatalogueError(HubbleforkError):
    """A table that cannot be read, joined or trusted."""


class ImageError(HubbleforkError):
    """An image, an archive or a folder of images that cannot be read."""


class StampError(HubbleforkError):
    """Stamps prepared in another way than the one asked for."""


class RecipeError(HubbleforkError):
    """A recipe, or a field of one, that does not exist or does not fit."""


class ExtraMissing(RecipeError):
    """A recipe or a verb that needs a package which is not installed."""


class RunError(HubbleforkError):
    """A run folder that is incomplete or belongs to another recipe."""


class DivergedError(RunError):
    """A training whose error is no longer a number."""


class DownloadError(HubbleforkError):
    """A file that could not be fetched, or is not the file expected."""


class SampError(HubbleforkError):
    """A table that no other program took."""


class BusyError(HubbleforkError):
    """An output that another process is writing."""


class DiskError(HubbleforkError):
    """A file that could not be written."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ' (did you mean "…"?)' with the nearest of the known names, or an empty string."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f' (did you mean "{near[0]}"?)' if near else ""


@contextmanager
def extras(what: str = "this") -> Iterator[None]:
    """Turn the lack of a package of an extra into an ExtraMissing that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        raise ExtraMissing(
            f"{what} needs the package {package}, which is not installed: "
            f"pip install 'hubblefork[{EXTRAS[package]}]'"
        ) from error
