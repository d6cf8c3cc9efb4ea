"""What was refused at the border, and why: one row of `rejects.csv` each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from hubblefork.data.archives import MemberError


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


def reject_of(error: MemberError, galaxy_id: str = "") -> Reject:
    """Return the row for an image or archive that could not be used."""
    return Reject(str(error.source), error.member, galaxy_id, error.reason, error.value)


def write_rejects(rejects: Sequence[Reject], path: Path) -> None:
    """Write the rows as CSV with a header, every value as text."""
    names = [field.name for field in fields(Reject)]
    columns = zip(*map(astuple, rejects), strict=True) if rejects else [()] * len(names)
    pa.csv.write_csv(pa.table([pa.array(column, pa.string()) for column in columns], names), path)


def read_rejects(path: Path) -> list[Reject]:
    """Read the rows that `write_rejects` wrote."""
    names = [field.name for field in fields(Reject)]
    options = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    table = pa.csv.read_csv(path, convert_options=options, parse_options=parsing)
    return [Reject(**row) for row in table.to_pylist()]
