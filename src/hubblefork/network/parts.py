"""Finished parts of a prediction: they lie beside the catalogue to be, until it is whole.

OUT.parts/origin says which networks predict, and how; OUT.parts/<source>-<number>.parquet are tables of
`member`, its `values` in the order of the tree, or the `reason` why there are none. In memory a
finished galaxy is no more than its name and its id.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.data.archives import galaxy_id_of
from hubblefork.data.catalogue import ID, id_column, with_fractions
from hubblefork.io import replacing, write_text
from hubblefork.zoo import DecisionTree

TOGETHER = 32


@dataclass(frozen=True)
class Parts:
    """The finished parts of one prediction. A source is named by its `key`."""

    folder: Path

    @classmethod
    def opened(cls, out: Path, how: Sequence[str]) -> Parts:
        """Reopen the parts of a prediction made in the same way, or begin anew."""
        folder, origin = out.with_name(f"{out.name}.parts"), " ".join(how)
        if not (folder / "origin").exists() or (folder / "origin").read_text(encoding="utf-8") != origin:
            shutil.rmtree(folder, ignore_errors=True)
            write_text(folder / "origin", origin)
        return cls(folder)

    def done(self, source: str) -> set[str]:
        """Return the members of an archive or folder that need not be predicted again."""
        tables = (pa.parquet.read_table(path, columns=["member"]) for path in self._files([source]))
        return {name for table in tables for name in table.column("member").to_pylist()}

    def add(
        self, source: str, names: list[str], values: NDArray[np.float32], rejects: list[tuple[str, str]]
    ) -> None:
        """Keep members with values (galaxy, answer), and the others with the reason. Raises DiskError."""
        kind = pa.list_(pa.float32(), values.shape[1])
        columns = {
            "member": [*names, *(name for name, _ in rejects)],
            "values": pa.chunked_array(
                [pa.FixedSizeListArray.from_arrays(values.ravel(), type=kind), pa.nulls(len(rejects), kind)]
            ),
            "reason": pa.array([*(None for _ in names), *(reason for _, reason in rejects)], pa.string()),
        }
        number = len(self._files([source]))
        with replacing(self.folder / f"{_digest(source)}-{number:06d}.parquet") as temporary:
            pa.parquet.write_table(pa.table(columns), temporary)

    def whole(self, sources: Sequence[str]) -> Whole:
        """Return all that was predicted of some sources; of the members with one id the first is kept."""
        files = self._files(sources)
        listed = pa.concat_tables(pa.parquet.read_table(path, columns=["member", "reason"]) for path in files)
        good = pa.compute.is_null(listed.column("reason"))
        failed = listed.filter(pa.compute.invert(good))
        members = listed.column("member").filter(good)
        ids = _ids(members)
        kept = _first_of_each(ids)
        rejects = list(zip(*(failed.column(name).to_pylist() for name in ("member", "reason")), strict=True))
        return Whole(files, ids, kept, rejects + _repeated(ids, members, kept))

    def remove(self) -> None:
        """Remove them: the catalogue is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self, sources: Sequence[str]) -> list[Path]:
        return [
            path for source in sources for path in sorted(self.folder.glob(f"{_digest(source)}-*.parquet"))
        ]


@dataclass(frozen=True)
class Whole:
    """All parts of a prediction: the ids of the predicted members, which of them are kept, what is not."""

    files: list[Path]
    ids: pa.ChunkedArray
    kept: NDArray[np.bool_]
    rejects: list[tuple[str, str]]

    def __len__(self) -> int:
        """Return how many galaxies there are."""
        return int(np.count_nonzero(self.kept))

    def tables(self, tree: DecisionTree) -> Iterator[pa.Table]:
        """Yield ids and joint fractions, some hundred thousand galaxies at a time."""
        files, start = iter(self.files), 0
        while some := list(islice(files, TOGETHER)):
            columns = [pa.parquet.read_table(path, columns=["values"]).column("values") for path in some]
            lists = [column.drop_null().combine_chunks().flatten().to_numpy() for column in columns]
            values = np.concatenate([np.reshape(one, (-1, len(tree.columns))) for one in lists])
            kept = self.kept[start : start + len(values)]
            ids = self.ids.slice(start, len(values)).filter(pa.array(kept))
            yield with_fractions(pa.table({ID: ids}), values[kept], tree)
            start += len(values)


def _ids(members: pa.ChunkedArray) -> pa.ChunkedArray:
    chunks = ([galaxy_id_of(name) for name in chunk.to_pylist()] for chunk in members.chunks)
    return id_column(pa.chunked_array([pa.array(chunk, pa.string()) for chunk in chunks], pa.string()))


def _first_of_each(ids: pa.ChunkedArray) -> NDArray[np.bool_]:
    rows = pa.table({"id": ids, "row": np.arange(len(ids))})
    first = rows.group_by("id").aggregate([("row", "min")]).column("row_min")
    kept = np.zeros(len(ids), dtype=bool)
    kept[first.to_numpy()] = True
    return kept


def _repeated(
    ids: pa.ChunkedArray, members: pa.ChunkedArray, kept: NDArray[np.bool_]
) -> list[tuple[str, str]]:
    """Return the members whose id an earlier one has, with the reason that names it."""
    others = pa.array(~kept)
    again = ids.filter(others)
    firsts = pa.compute.and_(pa.compute.is_in(ids, pa.compute.unique(again)), pa.array(kept))
    first = dict(zip(ids.filter(firsts).to_pylist(), members.filter(firsts).to_pylist(), strict=True))
    pairs = zip(again.to_pylist(), members.filter(others).to_pylist(), strict=True)
    return [(name, repeated_id(galaxy_id, first[galaxy_id])) for galaxy_id, name in pairs]


def repeated_id(galaxy_id: str | int, kept: str) -> str:
    """Return the reason why an image is left out: an earlier one has its id."""
    return f"galaxy_id {galaxy_id} stands more than once; kept is {kept}"


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:16]
