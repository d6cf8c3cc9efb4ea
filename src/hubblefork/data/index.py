"""Images found by the ids of their galaxies, in archives, folders, tables and arrays, without listing them.

    with open_index([Path("tiles.tar"), Path("list.csv")]) as index:
        source, name = index.find("587722981741363294")

Of each image the hash of its galaxy's id is held, and the number by which the reader of its format finds it
(`members.Members`). What is found is listed then, by the rules of every source: what is refused there is not
found here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.data.cutouts import band_of, brought_together
from hubblefork.data.members import Few, Members, Place, Source, galaxy_id_of, printable
from hubblefork.data.sources import is_image_file, members_of, open_files


@dataclass(frozen=True)
class ImageIndex:
    """Which members of which sources are images of a galaxy; for one thread at a time.

    Members are sorted by the `hashes` of their galaxies' ids, then by `source` and `number`, all (member,).
    `files` is the pattern of names where each band is a file of its own.
    """

    sources: Sequence[Members]
    files: str
    hashes: NDArray[np.int64]
    source: NDArray[np.uint32]
    number: NDArray[np.int64]

    def find(self, galaxy_id: str) -> tuple[Source, str] | None:
        """Return the first image of a galaxy: a source with few others, and its name there; None without."""
        start, end = (np.searchsorted(self.hashes, hash(galaxy_id), side) for side in ("left", "right"))
        members = zip(self.source[start:end].tolist(), self.number[start:end].tolist(), strict=True)
        for source, there in groupby(members, lambda member: member[0]):
            listed = self.sources[source].listed([number for _, number in there])
            listed = brought_together(listed, self.files) if self.files else listed
            for name in listed.versions:
                if printable(galaxy_id_of(name)) == galaxy_id:
                    return listed, name
        return None


@contextmanager
def open_index(
    places: Sequence[Place], files: str = "", only: Iterable[pa.Array] | None = None
) -> Iterator[ImageIndex]:
    """Open the images at some paths and URLs to find them by id, of a galaxy the first.

    `files` is as for `open_source`, which see for what is raised. No image is found of galaxies whose ids are
    not in the pieces of `only`, if they are given.
    """
    with ExitStack() as stack:
        single = [place for place in places if isinstance(place, Path) and is_image_file(place)]
        sources: list[Members] = [Few(open_files(single))] if single else []
        sources += [members_of(place, stack) for place in places if place not in single]
        parts = [_members(members, files) for members in sources]
        hashes, number = (_joined(part[column] for part in parts) for column in (0, 1))
        source = np.repeat(np.arange(len(sources), dtype=np.uint32), [len(part[0]) for part in parts])
        order = np.argsort(hashes, kind="stable")
        if only is not None:
            order = order[_among(hashes[order], np.sort(_joined(_hashes(ids.to_pylist()) for ids in only)))]
        yield ImageIndex(sources, files, hashes[order], source[order], number[order])


def _members(members: Members, files: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the hash and the number of each member of a source."""
    hashes, numbers = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for names, some in members.names():
        named = [name or "" for name in names]
        hashes.append(_hashes(_ids([band_of(name, files)[0] for name in named] if files else named)))
        numbers.append(np.asarray(some, np.int64))
    return _joined(hashes), _joined(numbers)


def _joined(parts: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *parts])


def _among(hashes: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which of sorted hashes are among others, sorted too, shape (member,)."""
    return np.searchsorted(wanted, hashes, "right") > np.searchsorted(wanted, hashes)


def _ids(names: Sequence[str]) -> Sequence[str]:
    """Return the ids of galaxies by names; most are ids themselves, and that is seen of many at once."""
    text = "".join(names)
    if text.isascii() and not any(sign in text for sign in "./\\"):
        return names
    return [printable(galaxy_id_of(name)) for name in names]


def _hashes(ids: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, ids), np.int64, len(ids))
