"""Tables as text: separated by commas, semicolons, tabs, bars or spaces, in usual encodings, read by PyArrow.

Lines that begin with # are comments; a header may stand in the last of them. Decimal commas are numbers.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from hubblefork.errors import CatalogueError
from hubblefork.tables.columns import MISSING, chosen, id_columns, unique

SEPARATORS = (",", ";", "\t", "|")
SPACES = " "
LONGEST_LINE = 2**20
BLOCK = 2**20

Opener = Callable[[], BinaryIO]


@dataclass(frozen=True)
class Rows:
    """A table as it stands in a file, ids and fractions not looked at.

    `lines` has for each row the line of a text file (from 1), for other files the number of the row;
    `ragged` the lines of a text file that have another number of cells than the header, with their cells.
    `member` is the file within a zip, `names` are those of all columns of a text.
    """

    table: pa.Table
    lines: Sequence[int]
    unit: str = "row"
    member: str = ""
    names: Sequence[str] = ()
    ragged: list[tuple[int, list[str]]] = field(default_factory=list)

    def place(self, row: int) -> str:
        """Return where a row stands: "line 7"."""
        return f"{self.unit} {self.lines[row]}"


@dataclass(frozen=True)
class _Text:
    """How a text is encoded and separated, the names of its columns, and the lines before its first row."""

    opener: Opener
    encoding: str
    separator: str
    names: list[str]
    head: int
    decimal: str

    def lines(self) -> Iterator[str]:
        """Yield blocks of whole lines below the header, comments made empty."""
        with io.TextIOWrapper(self.opener(), encoding=self.encoding) as handle:
            for _ in range(self.head):
                handle.readline(LONGEST_LINE)
            while block := handle.read(BLOCK):
                block += handle.readline(LONGEST_LINE)
                if block.startswith("#") or "\n#" in block:
                    block = re.sub(r"^#.*", "", block, flags=re.MULTILINE)
                if self.separator == SPACES:
                    block = re.sub(r"^ +| +$", "", re.sub(r"[ \t]+", " ", block), flags=re.MULTILINE)
                yield block


class _Bytes(io.RawIOBase):
    """Blocks of text as a stream of UTF-8 that counts lines with and without content."""

    def __init__(self, blocks: Iterator[str]) -> None:
        self.blocks, self.rest, self.total, self.empty = blocks, memoryview(b""), 0, list[int]()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.rest and (block := next(self.blocks, "")):
            if block.startswith("\n") or "\n\n" in block:
                starts = enumerate(block.split("\n")[: block.count("\n")], self.total)
                self.empty += [number for number, line in starts if not line]
            self.total += block.count("\n") + (not block.endswith("\n"))
            self.rest = memoryview(block.encode())
        size = min(len(buffer), len(self.rest))
        buffer[:size] = self.rest[:size]
        self.rest = self.rest[size:]
        return size


def text_names(path: Path, opener: Opener) -> list[str]:
    """Return the names of the columns of a text. Raises CatalogueError."""
    return unique(_described(path, opener).names)


def read_text(path: Path, opener: Opener, member: str, only: Collection[str] | None) -> Rows:
    """Read text by PyArrow: ids as text, other columns as what all their cells are. Raises CatalogueError."""
    text = _described(path, opener)
    stream, ragged = _Bytes(text.lines()), list[Any]()

    def skip(row: Any) -> str:
        ragged.append(row)
        return "skip"

    names = unique(text.names)
    ids = names if len(names) == 1 else id_columns(names)
    convert = pa.csv.ConvertOptions(
        include_columns=chosen(names, only),
        column_types=dict.fromkeys(ids, pa.string()),
        null_values=sorted(
            {*MISSING, *map(str.upper, MISSING), "NaN", "-NaN", "None", "Null", "#N/A N/A", "nan"}
        ),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        decimal_point=text.decimal,
    )
    parse = pa.csv.ParseOptions(
        delimiter=text.separator,
        newlines_in_values=True,
        invalid_row_handler=skip,
    )
    # A thread of Arrow may drop the handler after Python has ended, which aborts the process.
    read = pa.csv.ReadOptions(column_names=names, use_threads=False)
    try:
        table = pa.csv.read_csv(io.BufferedReader(stream), read, parse, convert)
    except pa.ArrowInvalid as error:
        if "Empty CSV file" not in str(error):
            raise
        kinds = {name: pa.string() if name in ids else pa.null() for name in chosen(names, only)}
        table = pa.table({name: pa.array([], kind) for name, kind in kinds.items()})
    if stream.total - len(stream.empty) == len(table) and not ragged:
        numbers = np.delete(np.arange(stream.total), stream.empty) + text.head + 1
        return Rows(table, numbers.tolist(), "line", member, names)
    good, bad = _line_by_line(path, text)
    if len(good) != len(table):
        raise CatalogueError(f"{path}: its quotes do not fit together; write the table anew")
    return Rows(table, good, "line", member, names, bad)


def _line_by_line(path: Path, text: _Text) -> tuple[list[int], list[tuple[int, list[str]]]]:
    """Return the lines of good rows, and lines and cells of rows of another length. Raises CatalogueError."""
    good, bad = list[int](), list[tuple[int, list[str]]]()
    lines = chain.from_iterable(io.StringIO(block) for block in text.lines())
    reader = csv.reader(lines, delimiter=text.separator, strict=True)
    try:
        for cells in reader:
            line = text.head + reader.line_num
            swallowed = max((cell.count("\n") and cell.count(text.separator) for cell in cells), default=0)
            if (len(text.names) > 1 and swallowed >= len(text.names) - 1) or (
                len(text.names) == 1 and "\n" in "".join(cells)
            ):
                raise CatalogueError(
                    f"{path}: line {line}: a quote that begins before this line is not closed"
                )
            if len(cells) == len(text.names):
                good.append(line)
            elif cells:
                bad.append((line, cells))
    except csv.Error as error:
        raise CatalogueError(
            f"{path}: line {text.head + reader.line_num}: a quote is not closed ({error})"
        ) from error
    return good, bad


def _described(path: Path, opener: Opener) -> _Text:
    """Find out the encoding, the separator and the header: the first line, or the last comment above it."""
    encoding, comment = _encoding(path, opener), ""
    separators: tuple[str, ...] = (*SEPARATORS, SPACES)
    with io.TextIOWrapper(opener(), encoding=encoding) as handle:
        number, line = 0, ""
        for number, line in enumerate(iter(partial(handle.readline, LONGEST_LINE), ""), 1):  # noqa: B007
            if said := re.fullmatch(r'"?sep=(.)"?\n?', line, re.IGNORECASE):  # Excel's
                separators = (said[1],)
            elif line.startswith("#"):
                comment = line.lstrip("# ")
            elif line.strip():
                break
        sample = handle.read(2**16)
    if not line.strip() or line.startswith("#"):
        raise CatalogueError(f"{path}: not a readable table: it is empty")
    headers = [
        (_split(text, mark), mark, head)
        for text, head in ((line, number), (comment, number - 1))
        for mark in separators
    ]
    with_ids = [header for header in headers if id_columns(header[0])]
    names, separator, head = (
        with_ids or [max(headers[: len(separators) - 1] or headers, key=lambda h: len(h[0]))]
    )[0]
    commas = separator != "," and re.search(r"\d,\d", sample) and not re.search(r"\d\.\d", sample)
    return _Text(opener, encoding, separator, names, head, "," if commas else ".")


def _split(line: str, separator: str) -> list[str]:
    with suppress(csv.Error):
        bare = re.sub(r"[ \t]+", " ", line.strip()) if separator == SPACES else line.rstrip("\r\n")
        return next(csv.reader([bare], delimiter=separator), [])
    return [line]


def _encoding(path: Path, opener: Opener) -> str:
    """Return the encoding of a text: by its first bytes, else UTF-8, else Windows' or plain Latin-1."""
    with opener() as handle:
        head = handle.read(4)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if len(head) == 4 and head.count(0) == 2 and (head[1] == head[3] == 0 or head[0] == head[2] == 0):
            return "utf-16-le" if head[1] == 0 else "utf-16-be"
        possible = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8-sig", "cp1252")}
        chunk = head
        while chunk:
            if b"\0" in chunk:
                raise CatalogueError(f"{path}: not a readable table: it is no text")
            for name in list(possible):
                try:
                    possible[name].decode(chunk)
                except UnicodeDecodeError:
                    del possible[name]
            chunk = handle.read(BLOCK)
    return next(iter(possible), "latin-1")
