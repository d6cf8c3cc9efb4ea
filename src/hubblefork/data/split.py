"""The split: which galaxies train, which choose, which judge; a hash of `galaxy_id`.

Adding galaxies moves none, and no command can disagree with another about a galaxy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import tomli_w
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError
from hubblefork.io import read_toml, write_text
from hubblefork.tables.catalogue import naming
from hubblefork.tables.columns import id_columns, id_name, ids_of
from hubblefork.tables.formats import read_rows

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = (TRAIN, VALIDATION, TEST)
LEFT_OUT = "left out"
HASHES = 16**8


@dataclass(frozen=True)
class Fold:
    """One of `folds` folds of a cross validation, chosen by `sha256("<salt>:<galaxy_id>")` modulo `folds`.

    Raises CatalogueError for fewer than two folds or a number that is none of them.
    """

    salt: str
    folds: int
    number: int

    def __post_init__(self) -> None:
        if self.folds < 2 or not 0 <= self.number < self.folds:
            raise CatalogueError(
                f"fold {self.number} of {self.folds}: there are at least 2 folds, and they count from 0"
            )

    def holds(self, galaxy_id: int | str) -> bool:
        """Whether a galaxy is in this fold."""
        return hashed(self.salt, galaxy_id) % self.folds == self.number


@dataclass(frozen=True)
class Split:
    """Percentages of galaxies, chosen by `sha256("<salt>:<galaxy_id>")`.

    The first 8 hex digits modulo 100 give a galaxy's bucket: the first `test` buckets are test,
    the next `validation` validation, the rest train. With `judge_on`, a galaxy outside that list
    always trains. The default is the lab report's 80/20, without a test set. With a `fold`, the galaxies
    that would be test are left out altogether, and those of the fold are test; who chooses among the rest
    stays as it is. With a `train_share` below 1 only so many of the galaxies that would train do, the others
    are left out: those with the lowest `sha256("<salt>/train:<galaxy_id>")`, so that a smaller share is part
    of every larger one, and who chooses and who judges stays as it is. With `only` those galaxies train and
    choose, and all others that do not judge are left out. Raises CatalogueError.
    """

    salt: str = "hubblefork"
    test: int = 0
    validation: int = 20
    judge_on: frozenset[str] | None = field(default=None, repr=False)
    fold: Fold | None = None
    train_share: float = 1.0
    only: frozenset[str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        whole = type(self.test) is int and type(self.validation) is int
        if not whole or self.test < 0 or self.validation < 0 or self.test + self.validation > 100:
            raise CatalogueError(
                f"a split of {self.test}% test and {self.validation}% validation: "
                "each is a whole number, at least 0, and both together are at most 100"
            )
        if not 0 < self.train_share <= 1:
            raise CatalogueError(
                f"a share of {self.train_share} of the training galaxies: above 0, at most 1"
            )

    def of(self, galaxy_id: int | str) -> str:
        """Return "train", "validation", "test" or, for what a fold or a share leaves out, "left out"."""
        part = self._part(galaxy_id)
        if self.only is not None and part != TEST and str(galaxy_id) not in self.only:
            return LEFT_OUT
        if part == TRAIN and self.train_share < 1:
            lot = hashed(f"{self.salt}/train", galaxy_id) / HASHES
            return TRAIN if lot < self.train_share else LEFT_OUT
        return part

    def _part(self, galaxy_id: int | str) -> str:
        if self.judge_on is not None and str(galaxy_id) not in self.judge_on:
            return TRAIN
        bucket = hashed(self.salt, galaxy_id) % 100
        if bucket < self.test:
            return LEFT_OUT if self.fold else TEST
        if self.fold is not None and self.fold.holds(galaxy_id):
            return TEST
        return VALIDATION if bucket < self.test + self.validation else TRAIN

    @property
    def judges(self) -> tuple[str, ...]:
        """The parts that a run can be judged on, the one for final numbers last."""
        return (VALIDATION, TEST) if self.test or self.fold else (VALIDATION,)

    def assign(self, galaxy_ids: Iterable[int | str]) -> NDArray[np.str_]:
        """Return the part of each galaxy, shape (galaxy,)."""
        return np.array([self.of(galaxy_id) for galaxy_id in galaxy_ids], dtype="U10")


def write_split(split: Split, folder: Path) -> None:
    """Write `split.toml`, and `judge_on.txt` and `only.txt` beside it when galaxies are listed."""
    listed = split.judge_on is not None
    for name, ids in (("judge_on.txt", split.judge_on), ("only.txt", split.only)):
        if ids is not None:
            write_text(folder / name, "".join(f"{galaxy_id}\n" for galaxy_id in sorted(ids)))
    entries = {"salt": split.salt, "test": split.test, "validation": split.validation, "judge_on": listed}
    if split.fold is not None:
        entries["fold"] = asdict(split.fold)
    if split.train_share < 1:
        entries["train_share"] = split.train_share
    if split.only is not None:
        entries["only"] = True
    meaning = "# judge_on: whether only the galaxies of judge_on.txt are judged on\n"
    write_text(folder / "split.toml", meaning + tomli_w.dumps(entries))


def read_split(folder: Path) -> Split:
    """Read the split of a data or run folder; the default where none was written. Raises CatalogueError."""
    path = folder / "split.toml"
    if not path.exists():
        return Split()
    remedy = "write it anew with `hubblefork split`, or remove it for the default split"
    entries = read_toml(path, CatalogueError, remedy)
    entries.check({"salt": str, "judge_on": bool, "fold": dict, "only": bool})
    try:
        judge_on = _listed(folder / "judge_on.txt") if entries["judge_on"] else None
        fold = Fold(**entries["fold"]) if "fold" in entries else None
        share = float(entries.get("train_share", 1.0))
        only = _listed(folder / "only.txt") if entries.get("only") else None
        return Split(entries["salt"], entries["test"], entries["validation"], judge_on, fold, share, only)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CatalogueError(f"{path}: not a split ({type(error).__name__}: {error}); {remedy}") from error


def hashed(salt: str, galaxy_id: int | str) -> int:
    """Return the first 8 hex digits of `sha256("<salt>:<galaxy_id>")` as a number below `HASHES`."""
    return int(hashlib.sha256(f"{salt}:{galaxy_id}".encode()).hexdigest()[:8], 16)


def _listed(path: Path) -> frozenset[str]:
    """Return the ids that `write_split` wrote, one a line. Raises OSError, ValueError."""
    ids = frozenset(line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip())
    if not ids:
        raise ValueError(f"{path}: the list of ids is empty")
    return ids


def read_ids(path: Path) -> frozenset[str]:
    """Read a list of ids: one a line, with or without a header, or the column of ids of any table.

    Ids are written as `tables.columns` says. Raises CatalogueError.
    """
    rows = read_rows(path)
    if rows.ragged:
        line, cells = rows.ragged[0]
        raise CatalogueError(f"{path}: line {line}: {len(cells)} cells; a list has one id a line")
    names = rows.table.column_names
    with naming(path):
        header = names if len(names) == 1 == len(rows.names) and not id_columns(names) else []
        column = rows.table.column(names[0] if header else id_name(names))
        ids, faults = ids_of(pa.chunked_array([pa.array(header, column.type), *column.chunks]))
        for row, (reason, value) in faults.items():
            where = rows.place(row - len(header)) if row >= len(header) else "its first line"
            raise CatalogueError(f"{where}: {reason} ({value})")
        if not len(ids):
            raise CatalogueError("the list of ids is empty")
    return frozenset(ids.to_pylist())
