"""What of a study's page may go where images of galaxies may not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from pathlib import Path

from hubblefork.io import replacing, write_text


def copy_record(report: Path, out: Path, *, without: Collection[str] = ()) -> None:
    """Copy a page's figures as PDF, and its numbers.json, but for the figures named in `without`.

    Raises DiskError.
    """
    numbers = json.loads((report / "numbers.json").read_text(encoding="utf-8"))
    for section in numbers["sections"].values():
        for name in set(section).intersection(without):
            del section[name]
    write_text(out / "numbers.json", json.dumps(numbers, allow_nan=False) + "\n")
    for figure in sorted(report.glob("*.pdf")):
        if figure.stem not in without:
            with replacing(out / figure.name) as temporary:
                shutil.copyfile(figure, temporary)
