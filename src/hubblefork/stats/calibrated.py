"""What was measured on the predictions of certain weights, and lies as JSON beside them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from hubblefork.data.folders import VIEWING, evaluate_command
from hubblefork.errors import CatalogueError, RunError
from hubblefork.io import write_text

EXACT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=EXACT)
class Calibrated:
    """Numbers of the `weights` with that SHA-256, predicting from so many `views` of each galaxy.

    `viewing` is the manner of these views, `origin` names the calibration galaxies.
    """

    weights: str = ""
    views: int = 1
    viewing: str = "1"
    origin: str = ""
    what: ClassVar[str]

    def to_json(self) -> str:
        """Return all fields as JSON; infinite numbers are text, as "-inf"."""
        return TypeAdapter(type(self)).dump_json(self, indent=1).decode() + "\n"

    def write(self, path: Path) -> None:
        """Write the file beside the weights, whole or not at all. Raises DiskError."""
        write_text(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote. Raises RunError that names the remedy."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValueError, TypeError, CatalogueError) as error:
            raise RunError(
                f"{path}: no readable {cls.what}: {_reason(error)}; "
                f"`{evaluate_command(path.parent)}` makes them"
            ) from error

    @classmethod
    def read_for(cls, path: Path, weights: str, views: int, run: Path) -> Self:
        """Read a file for the weights of a run, by their SHA-256, and so many views of each galaxy.

        Raises RunError where there is none, and where it is of others or of an earlier way to look at them.
        """
        remedy = f"`{evaluate_command(path.parent, views)}` makes it"
        if not path.exists():
            raise RunError(f"{path.parent}: there is no {path.name}; {remedy}")
        result = cls.read(path)
        if result.weights != weights:
            raise RunError(f"{path} is of other weights than {run}; {remedy} anew")
        if result.viewing != VIEWING:
            raise RunError(
                f"{path} was made by an earlier hubblefork, which looked at galaxies otherwise; {remedy} anew"
            )
        if result.views != views:
            raise RunError(f"{path} is for --views {result.views}, not {views}; {remedy} anew")
        return result


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3])
