"""The images of a source: their names, versions and bytes, and why others are none.

A name is only ever a key: no path is built from it, so a member named `../../x.jpg` reaches nothing. Every
member is an image, or one of `defects` and `left_out` with the reason; only the files that operating systems
leave behind (`__MACOSX`, `._x`, `.DS_Store`, `Thumbs.db`) are passed over in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hubblefork.errors import ImageError, did_you_mean
from hubblefork.io import UNREADABLE
from hubblefork.tables.names import (
    Target,
    Targets,
    galaxy_id_of,
    is_hidden,
    is_named_image,
    is_of_system,
    off_the_sky,
    parts_of,
    printable,
    stem_of,
)

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
TABLE_SUFFIXES = (".csv", ".parquet", ".zip", ".tsv", ".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zst")
PLACED = ".json"
"""How a sidecar is named that says where a galaxy is."""
SIDECARS, LARGEST_SIDECAR = (PLACED, ".cls", ".txt", ".__key__", ".__url__"), 64 * 2**10
UNREAD = "cannot be read"
"""The reason where reading failed, which may go well another time."""
HEAD = 16
JPEG, PNG, TIFF, WEBP = "JPEG", "PNG", "TIFF", "WEBP"
STARTS = {
    JPEG: b"\xff\xd8\xff",
    PNG: b"\x89PNG\r\n\x1a\n",
    TIFF: b"(II\\*\0|MM\0\\*).{4}",
    WEBP: b"RIFF....WEBP",
}
LARGEST_MEMBER = 64 * 2**20
REPLACE = "replace it with a whole copy or leave it out"


ImageData = bytes | NDArray[np.uint8]
Place = Path | str


class Entry(NamedTuple):
    """A member: name, size in bytes, a `version` that changes with it, and what reads so many bytes."""

    name: str
    size: int
    version: str
    read: Callable[[int], ImageData]


def held(data: ImageData, most: int) -> ImageData:
    """Return an image that is in memory: the `read` of its entry."""
    return data


class MemberError(ImageError):
    """One member of a source that cannot be used: a `reason` in a few words and the `value` found.

    An empty `member` means the source itself, of which the other members remain usable.
    """

    def __init__(self, source: Place, member: str, reason: str, value: str, remedy: str = REPLACE) -> None:
        self.source, self.member, self.reason = source, printable(member), reason
        self.galaxy_id, self.value = printable(galaxy_id_of(member)), printable(value)
        where = f"{source}: {self.member}" if member else f"{source}"
        super().__init__(f"{where}: {reason}: {self.value}; {remedy}")


class ImageFault(ImageError):
    """An image that cannot be used, before it is known where it stands: a `reason`, the `value` found."""

    def __init__(self, reason: str, value: str, remedy: str = REPLACE) -> None:
        self.reason, self.value, self.remedy = reason, value, remedy
        super().__init__(f"{reason}: {value}; {remedy}")

    def at(self, source: Place, member: str) -> MemberError:
        """Return the same fault of a member of an archive or folder."""
        return MemberError(source, member, self.reason, self.value, self.remedy)


@dataclass(frozen=True)
class Source:
    """The images of an archive, a folder, files or an array, one after the other; for one thread at a time.

    `defects` are images that cannot be used and damage of the source itself: where a truncated tar ends,
    which name stands twice (its first member counts). `left_out` are the files that are no images. `versions`
    maps the names of the images to a text that changes when the image does. `key` tells sources apart, and an
    archive from one that replaced it. `targets` is what is known of galaxies by the names of their images.
    `path` is a path or a URL.
    """

    path: Place
    defects: tuple[MemberError, ...]
    left_out: tuple[MemberError, ...]
    versions: dict[str, str]
    entries: Callable[[], Iterable[Entry | MemberError]]
    key: str = ""
    targets: Targets = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return the names of the image members, each once, in archive order (a folder: sorted)."""
        return list(self.versions)

    def stream(self, names: Collection[str] | None = None) -> Iterator[tuple[str, ImageData | MemberError]]:
        """Yield the bytes of the named members (default: all) in archive order.

        A member that cannot be read yields the MemberError that says so. Raises ImageError for names that are
        not there.
        """
        left = set(self.versions) if names is None else self._checked(names)
        why = "it is no longer there"
        try:
            for entry in self.entries() if left else ():
                if isinstance(entry, Entry) and entry.name in left:
                    left.remove(entry.name)
                    yield entry.name, _attempt(self.path, entry)
                if not left:
                    return
        except UNREADABLE as error:
            why = str(error)
        for name in self.versions:
            if name in left:
                yield name, MemberError(self.path, name, UNREAD, why)

    def _checked(self, names: Collection[str]) -> set[str]:
        absent = sorted(set(names).difference(self.versions))
        if absent:
            near = did_you_mean(absent[0], self.versions) if len(self.versions) < 1000 else ""
            raise ImageError(
                f'{self.path}: {len(absent)} images are not in it, the first "{absent[0]}"{near}; '
                "was the archive or folder changed since `hubblefork ingest`? Ingest it again"
            )
        return set(names)


Names = Iterator[tuple[Sequence[str | None], Sequence[int]]]


class Members(Protocol):
    """What an open archive, folder, table or array has, before any of it is looked at."""

    def names(self) -> Names:
        """Yield some names at a time, and of each the number by which its member is found.

        It is a row, a place in a list, or a byte of a tar. A row without a name has None, and a sidecar the
        name of the image that it is beside. Raises ImageError.
        """
        ...

    def listed(self, numbers: Sequence[int] | None = None) -> Source:
        """Return the members of some numbers as a source by themselves; all by default. Raises ImageError."""
        ...


@dataclass(frozen=True)
class Few:
    """A source of few images as its members: any number stands for all of them."""

    source: Source

    def names(self) -> Names:
        """Yield all names at once."""
        yield self.source.names(), [0] * len(self.source.versions)

    def listed(self, numbers: Sequence[int] | None = None) -> Source:
        """Return the source."""
        return self.source


def _attempt(path: Place, entry: Entry, most: int = -1) -> ImageData | MemberError:
    """Return so many bytes of a member, all by default, or the error that says why it cannot be read."""
    try:
        return entry.read(most)
    except MemberError as error:
        return error
    except UNREADABLE as error:
        return MemberError(path, entry.name, UNREAD, str(error) or type(error).__name__)


# Which members are galaxies, and what their ids are


def beside_image(name: str) -> str:
    """Return the name without the ending of a sidecar that says where a galaxy is; of others as it is."""
    return name[: -len(PLACED)] if name[-len(PLACED) :].lower() == PLACED else name


def picture_kind(head: bytes) -> str:
    """Return the format of a picture by its first bytes: JPEG, PNG, TIFF or WEBP; nothing for other bytes."""
    return next((kind for kind, start in STARTS.items() if re.match(start, head, re.DOTALL)), "")


def indexed(path: Place, entries: Callable[[], Iterable[Entry | MemberError]], key: str) -> Source:
    """List a source: each member is an image, beside one (x.json, x.txt of x.jpg), a defect or left out."""
    listing = _Listing(path)
    try:
        for entry in entries():
            listing.take(entry)
    except UNREADABLE as error:
        after = f"{error} after {len(listing.versions)} images"
        listing.defects.append(MemberError(path, "", "archive is damaged", after))
    targets = listing.targets()
    defects, left_out = tuple(listing.defects), tuple(listing.left_out)
    return Source(path, defects, left_out, listing.versions, entries, printable(key), targets)


@dataclass
class _Listing:
    """What a source holds, as its members come; `beside` are names and beginnings of possible sidecars.

    Of members of one name the first counts, also where it is one of the `refused`.
    """

    path: Place
    versions: dict[str, str] = field(default_factory=dict)
    defects: list[MemberError] = field(default_factory=list)
    left_out: list[MemberError] = field(default_factory=list)
    beside: list[tuple[str, bytes]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def take(self, entry: Entry | MemberError) -> None:
        if isinstance(entry, MemberError):
            (self.left_out if entry.member else self.defects).append(entry)
        elif not is_of_system(entry.name):
            other = _other_than_image(self.path, entry)
            if isinstance(other, bytes):
                self.beside.append((entry.name, other))
            elif other:
                self.refused.add(entry.name)
                self.left_out.append(other)
            else:
                self._take_image(entry)

    def _take_image(self, entry: Entry) -> None:
        if entry.name in self.versions or entry.name in self.refused:
            twice = "name stands twice", entry.name, "the first member counts"
            self.defects.append(MemberError(self.path, entry.name, *twice))
        elif refusal := _refusal(entry.name, entry.size):
            self.refused.add(entry.name)
            self.defects.append(MemberError(self.path, entry.name, *refusal))
        else:
            self.versions[entry.name] = entry.version

    def targets(self) -> Targets:
        """Return what sidecars say of galaxies; an image with an impossible position becomes a defect."""
        images = {stem_of(name): name for name in self.versions} if self.beside else {}
        targets: Targets = {}
        for name, data in self.beside:
            image = images.get(splitext(name)[0])
            if image is None:
                self.left_out.append(_no_image(self.path, name, data))
            elif name.lower().endswith(PLACED):
                self._place(image, name, data, targets)
        return targets

    def _place(self, image: str, name: str, data: bytes, targets: Targets) -> None:
        try:
            values = json.loads(data)
            found = [values.get(key) for key in Target._fields] if isinstance(values, dict) else [None] * 3
            ra, dec, r90 = (None if value is None else float(value) for value in found)
        except (ValueError, TypeError, RecursionError) as error:
            self.left_out.append(
                MemberError(self.path, name, "sidecar cannot be read", str(error), "mend it")
            )
            return
        if off := off_the_sky(ra, dec):
            self.defects.append(MemberError(self.path, image, *off))
            self.versions.pop(image, None)
        elif (ra, dec, r90) != (None, None, None):
            targets[image] = Target(ra, dec, r90)


def _other_than_image(path: Place, entry: Entry) -> MemberError | bytes | None:
    """Return why a member is no image by its name nor by its first bytes; None where it is one.

    Of what may stand beside an image the beginning is returned.
    """
    name = entry.name
    if is_hidden(name):
        return MemberError(path, name, "hidden file", name, "rename it if it is a galaxy")
    if is_named_image(name):
        return None
    if name.lower().endswith(ARCHIVE_SUFFIXES):
        return MemberError(path, name, "archive within it", name, "unpack it or name it by itself")
    if name.lower().endswith(TABLE_SUFFIXES):
        return MemberError(path, name, "table within it", name, "name it by itself if it has images")
    is_sidecar = name.lower().endswith(SIDECARS)
    head = _attempt(path, entry, LARGEST_SIDECAR if is_sidecar else HEAD)
    if isinstance(head, MemberError):
        return head
    head = bytes(head)
    if picture_kind(head):
        return None
    return head if is_sidecar else _no_image(path, name, head)


def _no_image(path: Place, name: str, data: bytes) -> MemberError:
    begins = f"begins with {data[:HEAD]!r}"
    return MemberError(path, name, "neither a JPEG nor a PNG", begins, "convert it or leave it out")


def _refusal(name: str, size: int) -> tuple[str, str] | None:
    """Return reason and value when an image must not be read, else None."""
    parts = parts_of(name)
    if ".." in parts or (len(parts) > 1 and re.fullmatch(r"([A-Za-z]:)?", parts[0])):
        return "name points outside the archive", name
    if printable(name) != name:
        return "name is not valid UTF-8", name
    if size > LARGEST_MEMBER:
        return "larger than allowed", f"{size} bytes; at most {LARGEST_MEMBER} are"
    return None
