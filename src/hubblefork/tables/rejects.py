"""What was left out, as CSV: images and rows that could not be used, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv


@dataclass(frozen=True)
class Reject:
    """One refused image, label row or archive: where it stood, a `reason` in a few words, the `value` found.

    `member` is the name within an archive or folder, empty for the file itself; `galaxy_id` is
    empty where there is none.
    """

    source: str
    member: str
    galaxy_id: str
    reason: str
    value: str

    def __str__(self) -> str:
        where = f"{self.source}: {self.member}" if self.member else self.source
        return f"{where}: {self.reason}: {self.value}"


REJECT_COLUMNS = pa.schema([(field.name, pa.string()) for field in fields(Reject)])


def rejects_table(rejects: Sequence[Reject]) -> pa.Table:
    """Return the rows as a table, every value as text."""
    return pa.Table.from_pylist([asdict(reject) for reject in rejects], REJECT_COLUMNS)


def write_rejects(rejects: Sequence[Reject], path: Path) -> None:
    """Write the rows as CSV with a header, every value as text."""
    pa.csv.write_csv(rejects_table(rejects), path)


def rejects_file(out: Path) -> Path:
    """Return the file beside a catalogue that names what was left out of it."""
    return out.with_name(f"{out.name}.rejects.csv")


def read_rejects(path: Path) -> list[Reject]:
    """Read the rows that `write_rejects` wrote."""
    return [Reject(**row) for row in read_texts(path, REJECT_COLUMNS.names)]


def read_texts(path: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Read the rows of a CSV of ours whose columns of those names are texts. Raises ArrowException."""
    options = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    return pa.csv.read_csv(path, convert_options=options, parse_options=parsing).to_pylist()
