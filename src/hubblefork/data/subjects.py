"""A set of subjects for the Zooniverse: a manifest and the images that it names, ready to be uploaded.

The images are PNG, none larger than what Zooniverse's uploader takes (panoptes-cli, commands/subject_set.py):
a larger one is made smaller. Columns whose names begin with # are hidden from volunteers. Each image is
written whole; a set that was interrupted goes on, and ends as the same files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from hubblefork.errors import CatalogueError, ImageError
from hubblefork.images.decoder import each, pixels_of
from hubblefork.images.field import Sky
from hubblefork.images.members import ImageData, MemberError, Place, Source
from hubblefork.images.sources import open_source, reject_of
from hubblefork.io import Progress, alone_in, read_json, replacing, silent, write_text
from hubblefork.tables.names import galaxy_id_of
from hubblefork.tables.rejects import Reject, write_rejects

MANIFEST, NOTES, REJECTS = "manifest.csv", "subjects.json", "rejects.csv"
LARGEST = 2**20
ALLOWANCE = 10_000
"""Subjects that an account may upload unless the Zooniverse allows it more (help.zooniverse.org)."""
SHRINK = 0.9
PARTIAL = ".*.partial.*"


@dataclass(frozen=True)
class Written:
    """What a set came to: its subjects in order, what was refused, how many images were made smaller."""

    subjects: list[str]
    rejects: list[Reject]
    smaller: int


class Images:
    """The images of some sources by the ids of their galaxies; the first image of a galaxy counts."""

    def __init__(self, places: Sequence[Place], stack: ExitStack) -> None:
        self.sources = [stack.enter_context(open_source(place)) for place in places]
        self.of: dict[str, tuple[Source, str]] = {}
        for source in self.sources:
            for name in source.names():
                self.of.setdefault(galaxy_id_of(name), (source, name))
        if not self.of:
            raise ImageError(f"no images in {', '.join(map(str, places))}")

    def version(self, galaxy_id: str) -> str:
        """Return a text that changes with the image of a galaxy."""
        source, name = self.of[galaxy_id]
        return f"{source.key} {name} {source.versions[name]}"

    def encoded(self, galaxy_ids: Sequence[str]) -> Iterator[tuple[str, tuple[bytes, bool] | MemberError]]:
        """Yield galaxies and their images as PNG, source by source, and whether they were made smaller."""
        for source in self.sources:
            names = {name: i for i in galaxy_ids for origin, name in [self.of[i]] if origin is source}
            for name, result in each(source, png_of, names=list(names)) if names else ():
                yield names[name], result


def png_of(data: ImageData, sky: Sky = Sky()) -> tuple[bytes, bool]:
    """Return an image as PNG, smaller where it would be too large, and whether it was. Raises ImageFault."""
    image, smaller = Image.fromarray(pixels_of(data)), False
    while True:
        file = io.BytesIO()
        image.save(file, "PNG")
        if file.tell() <= LARGEST:
            return file.getvalue(), smaller
        factor = min(SHRINK, SHRINK * (LARGEST / file.tell()) ** 0.5)
        image = image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.LANCZOS)
        smaller = True


def file_name(galaxy_id: str) -> str:
    """Return the name of a galaxy's image: its id, with % for what a name of a file had better not have."""
    name = quote(galaxy_id, safe="+,@= ")
    return f"{'%2E' + name[1:] if name.startswith('.') else name}.png"


def write_subjects(
    candidates: Mapping[str, Mapping[str, str]],
    images: Images,
    out: Path,
    *,
    count: int,
    notes: Mapping[str, object],
    overwrite: bool = False,
    progress: Progress = silent,
) -> Written:
    """Write the first `count` candidates whose images can be used, the manifest last.

    `candidates` are ids and their columns of the manifest, the best first; those after `count` stand in for
    images that cannot be used. `notes` say how they were chosen. Raises BusyError while another process
    writes the folder, CatalogueError where it has another set (unless `overwrite`) or other files, DiskError.
    """
    rows = [[name, *columns.items(), images.version(name)] for name, columns in candidates.items()]
    marks = hashlib.sha256(json.dumps([count, rows]).encode()).hexdigest()
    refused, smaller = dict[str, Reject](), 0
    with alone_in(out, "writing these subjects"):
        _begin(out, {**notes, "marks": marks, "files": [file_name(i) for i in candidates]}, overwrite)
        there = {galaxy_id for galaxy_id in candidates if (out / file_name(galaxy_id)).exists()}
        with progress("subjects", count, done=len(there)) as advance:
            while True:
                subjects = [galaxy_id for galaxy_id in candidates if galaxy_id not in refused][:count]
                missing = [galaxy_id for galaxy_id in subjects if galaxy_id not in there]
                if not missing:
                    break
                for galaxy_id, result in images.encoded(missing):
                    if isinstance(result, MemberError):
                        refused[galaxy_id] = reject_of(result, galaxy_id)
                        continue
                    with replacing(out / file_name(galaxy_id)) as path:
                        path.write_bytes(result[0])
                    there.add(galaxy_id)
                    smaller += result[1]
                    advance(1)
        if not subjects:
            raise ImageError(f"no image can be used; the first: {next(iter(refused.values()))}")
        _finish(out, {galaxy_id: candidates[galaxy_id] for galaxy_id in subjects}, [*refused.values()])
    return Written(subjects, [*refused.values()], smaller)


def _begin(out: Path, notes: Mapping[str, object], overwrite: bool) -> None:
    """Note which set the folder has; remove what is left of a kill, and another set if that is said."""
    for path in out.glob(PARTIAL):
        path.unlink()
    if (out / NOTES).exists():
        held = read_json(out / NOTES, CatalogueError, "choose another folder")
        if held.get("marks") == notes["marks"]:
            return
        if not overwrite:
            raise CatalogueError(
                f"{out}: it has another set of subjects, or one of images that have changed; choose another "
                "folder, or replace it with --overwrite (overwrite=True)"
            )
        for name in (*held["files"], MANIFEST, REJECTS, NOTES):
            (out / Path(name).name).unlink(missing_ok=True)
    others = sorted(path.name for path in out.iterdir())
    if others:
        raise CatalogueError(f"{out}: it has other files, the first {others[0]}; choose an empty folder")
    write_text(out / NOTES, json.dumps(notes, indent=1))


def _finish(out: Path, subjects: Mapping[str, Mapping[str, str]], rejects: Sequence[Reject]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["galaxy_id", "image", *next(iter(subjects.values()))])
    writer.writerows([i, file_name(i), *columns.values()] for i, columns in subjects.items())
    if rejects:
        with replacing(out / REJECTS) as path:
            write_rejects(rejects, path)
    else:
        (out / REJECTS).unlink(missing_ok=True)
    write_text(out / MANIFEST, text.getvalue())
