"""The one reader and writer of tables: text, Parquet, Feather, FITS, VOTable, ECSV, also compressed.

The content says what a file is, its suffix only where the content does not.
"""

from __future__ import annotations

import bz2
import codecs
import errno
import gzip
import io
import json
import lzma
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from hubblefork.errors import CatalogueError
from hubblefork.io import UNREADABLE
from hubblefork.tables.columns import chosen, id_columns, unique
from hubblefork.tables.shards import (
    QUESTIONS,
    TREE,
    CatalogueFolder,
    described,
    is_catalogue_folder,
    notes_of,
)
from hubblefork.tables.text import Opener, Rows, read_text, text_names
from hubblefork.zoo import DecisionTree, load_tree, parse_tree, tree_names
from hubblefork.zoo.tree import DEFAULT

LONGEST_KEYWORD = 8
OF_COLUMN = re.compile(r"(TCOMM|TUCD)\d+")
NOT_IN_XML_ATTRIBUTE = re.compile(r"[\x00-\x1f]")
NOT_XML = r"[\x00-\x08\x0b\x0c\x0e-\x1f]"
UNPRINTABLE = re.compile(r"[^ -~]")
VIEWED = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
BEGINNINGS = {
    b"PAR1": "Parquet",
    b"ARROW1": "Feather",
    b"FEA1": "Feather",
    b"SIMPLE  =": "FITS",
    b"# %ECSV": "ECSV",
    b"<!": "web page",
    b"<html": "web page",
    b"<": "VOTable",
    b"PK\x03\x04": "zip",
    b"\xd0\xcf\x11\xe0": "workbook of Excel",
    b"\x89HDF": "file of HDF5",
}
SUFFIXES = {
    **{".parquet": "Parquet", ".feather": "Feather", ".fits": "FITS", ".fit": "FITS", ".ecsv": "ECSV"},
    **{".vot": "VOTable", ".votable": "VOTable", ".xml": "VOTable", ".zip": "zip"},
}
COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda path, _: io.BufferedReader(pa.CompressedInputStream(str(path), "zstd")),
}


def read_rows(path: Path, only: Collection[str] | None = None) -> Rows:
    """Read any table; with `only`, the ids and those columns that it has, in upper or lower case.

    Names lose spaces around them; a name that stands twice is numbered ("a (1 of 2)"). Of Parquet and text
    nothing else is ever in memory. Raises CatalogueError.
    """
    with _readable(path):
        return _read(path, only)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say of any error of a parser that the table cannot be read, as a CatalogueError."""
    try:
        yield
    except CatalogueError:
        raise
    except FileNotFoundError as error:
        raise CatalogueError(f"{path}: there is no such table") from error
    except IsADirectoryError as error:
        raise CatalogueError(f"{path}: this folder has no shards of a catalogue (part-….parquet)") from error
    except Exception as error:  # parsers of other formats raise anything on a broken file
        why = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise CatalogueError(
            f"{path}: not a readable {path.suffix} table: {why}; replace it with a whole copy"
        ) from error


def names_of(path: Path) -> list[str]:
    """Return the names of a table's columns, of Parquet and text without its rows. Raises CatalogueError."""
    with _readable(path):
        if is_catalogue_folder(path):
            return CatalogueFolder(path).head().column_names
        opener, kind, _ = _content(path)
        if kind == "text":
            return text_names(path, opener)
        if kind == "Parquet":
            with opener() as handle:
                return unique(pa.parquet.read_schema(handle).names)
    return read_rows(path).table.column_names


def _read(path: Path, only: Collection[str] | None) -> Rows:
    if is_catalogue_folder(path):
        table = CatalogueFolder(path).read(only)
        return Rows(table, range(1, len(table) + 1))
    opener, kind, member = _content(path)
    if kind not in READERS and kind != "text":
        raise CatalogueError(f"{path}: this is a {kind}; save the table as .csv")
    if kind == "text":
        return read_text(path, opener, member, only)
    source: Any = path
    with opener() as handle:
        if member or _compression(path):
            source = io.BytesIO(handle.read())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = READERS[kind](source, only)
    return Rows(table, range(1, len(table) + 1), member=member)


def text_opener(path: Path) -> Opener:
    """Return what opens the bytes of a text, compressed or not. Raises CatalogueError for other files."""
    try:
        opener, kind, _ = _content(path)
    except UNREADABLE as error:
        raise CatalogueError(f"{path}: cannot be read: {error}") from error
    if kind != "text":
        raise CatalogueError(f"{path}: this is a {kind}; give the CSV as it was exported")
    return opener


def _compression(path: Path) -> Callable[..., Any] | None:
    with path.open("rb") as handle:
        head = handle.read(8)
    return next((opener for magic, opener in COMPRESSED.items() if head.startswith(magic)), None)


def _content(path: Path) -> tuple[Opener, str, str]:
    """Return how a table's bytes are opened, of which kind they are, and the name of a zip's one table."""
    opener: Opener = partial(_compression(path) or Path.open, path, "rb")
    kind, member = _kind(opener, path.name), ""
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            files = [name for name in archive.namelist() if not re.search(r"/$|(^|/)(__MACOSX|\._)", name)]
        if any(name.startswith("xl/") for name in files):
            return opener, "workbook of Excel", ""
        names = [name for name in files if name.lower().endswith(".csv")] or files
        if len(names) != 1:
            raise CatalogueError(f"{path}: a zipped table holds one .csv, this one {len(names)}: {names}")
        member = names[0]
        opener = partial(_open_member, path, member)
        kind = _kind(opener, member)
    return opener, kind, member


def _open_member(path: Path, member: str) -> BinaryIO:
    with zipfile.ZipFile(path) as archive:
        return archive.open(member)  # type: ignore[return-value]


def _kind(opener: Opener, name: str) -> str:
    with opener() as handle:
        head = handle.read(64).removeprefix(codecs.BOM_UTF8).lstrip(b" \r\n\t")
    plain = Path(re.sub(r"\.(gz|bz2|xz|zst)$", "", name.lower())).suffix
    return next(
        (kind for magic, kind in BEGINNINGS.items() if head.startswith(magic)), SUFFIXES.get(plain, "text")
    )


# Other files


def _read_parquet(source: Any, only: Collection[str] | None) -> pa.Table:
    with pa.parquet.ParquetFile(source) as file:
        return _plain(file.read(list(dict.fromkeys(chosen(file.schema_arrow.names, only)))))


def _read_astropy(kind: str, source: Any, only: Collection[str] | None) -> pa.Table:
    from astropy.table import Table

    table = Table.read(source, format=kind)
    notes = {key: value for key, value in table.meta.items() if not OF_COLUMN.fullmatch(key)}
    table.meta = {key: _as_it_was(value) for key, value in notes.items()}
    return _plain(arrow_table(table), only)


def _read_vot(source: Any, only: Collection[str] | None) -> pa.Table:
    """Read a VOTable; its columns by their names, or by their IDs where only these name the galaxies."""
    from astropy.io import votable

    document = votable.parse(source)
    first = document.get_first_table()
    by_name = bool(id_columns([column.name or "" for column in first.fields]))
    table = first.to_table(use_names_over_ids=by_name)
    table.meta = {info.name: _as_it_was(info.value) for info in document.infos}
    return _plain(arrow_table(table), only)


READERS: dict[str, Callable[[Any, Collection[str] | None], pa.Table]] = {
    "Parquet": _read_parquet,
    "Feather": lambda source, only: _plain(pa.feather.read_table(source), only),
    "FITS": partial(_read_astropy, "fits"),
    "ECSV": partial(_read_astropy, "ascii.ecsv"),
    "VOTable": _read_vot,
}


def _plain(table: pa.Table, only: Collection[str] | None = None) -> pa.Table:
    """Return some columns (None: all) under their names without spaces, categories as what they stand for.

    Views of texts and bytes, as Polars writes them, become texts and bytes.
    """
    names = unique(table.column_names)
    kept = [place for place, name in enumerate(names) if name in set(chosen(names, only))]
    columns = [table.column(place) for place in kept]
    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in columns]
    columns = [c.cast(VIEWED[c.type]) if c.type in VIEWED else c for c in columns]
    chosen_columns = pa.table(columns, [names[place] for place in kept])
    chosen_columns.validate(full=True)
    return chosen_columns.replace_schema_metadata(table.schema.metadata)


def arrow_table(table: Any) -> pa.Table:
    """Return a table of astropy, or any that Arrow reads (pyarrow, pandas, Polars), as a catalogue.

    An index of pandas that has a name is a column. Raises CatalogueError for what is no table.
    """
    if named := [name for name in getattr(getattr(table, "index", None), "names", ()) if name]:
        table = table.reset_index(named)
    if hasattr(table, "__arrow_c_stream__"):
        arrow = table if isinstance(table, pa.Table) else pa.table(table)
        notes = {key: text for key, text in (arrow.schema.metadata or {}).items() if key != b"pandas"}
        return _plain(arrow.replace_schema_metadata(notes))
    if not hasattr(table, "colnames"):
        raise CatalogueError(
            f"a catalogue is {type(table).__name__}: give a path, or a table of astropy, pandas or pyarrow"
        )
    table.convert_bytestring_to_unicode()
    columns = {name: _arrow_column(np.ma.asarray(table[name])) for name in table.colnames}
    plain = {
        key.lower(): str(value) for key, value in table.meta.items() if isinstance(value, str | int | float)
    }
    return pa.table(columns).replace_schema_metadata(plain)


def _arrow_column(column: np.ma.MaskedArray) -> pa.Array:
    missing = np.ma.getmaskarray(column)
    values = np.ma.getdata(column, subok=False)
    if values.ndim > 1:
        return pa.array(values.reshape(len(values), -1).tolist())
    if values.dtype.kind in "OUS":
        texts = [None if gone else str(text) or None for text, gone in zip(values, missing, strict=True)]
        return pa.array(texts, pa.string())
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=missing)


# Writing


def _write_fits(table: pa.Table, path: Path) -> None:
    """Write a FITS table. Headers hold one line of printable ASCII: other metadata are written as JSON.

    TUNITn is a column's unit, also one that the FITS standard lacks (dex); TCOMMn describes it, and TUCDn is
    its UCD, as STIL of TOPCAT writes them.
    """
    from astropy.io.fits import table_to_hdu

    fits = astropy_table(table)
    fits.convert_unicode_to_bytestring()
    for column in fits.itercols():
        column.unit = None
    for key, text in notes_of(table.schema).items():
        long = "HIERARCH " if len(key) > LONGEST_KEYWORD else ""
        fits.meta[f"{long}{key}"] = _on_one_line(text, UNPRINTABLE)
    hdu = table_to_hdu(fits)
    for number, entry in enumerate(_described(table).values(), start=1):
        for key, text in (("TUNIT", entry["unit"]), ("TCOMM", entry["description"]), ("TUCD", entry["ucd"])):
            if text:
                hdu.header[f"{key}{number}"] = UNPRINTABLE.sub("?", text)
    try:
        hdu.writeto(path, overwrite=True)
    except OSError as error:
        if error.errno is None:  # numpy reports a disk that took only a part without saying why
            raise OSError(errno.ENOSPC, str(error)) from error
        raise


def _write_vot(table: pa.Table, path: Path) -> None:
    """Write a VOTable. XML holds no control characters: metadata become JSON, cells are refused."""
    from astropy.io import votable
    from astropy.io.votable.exceptions import W03, W50
    from astropy.io.votable.tree import Info

    for name in table.column_names:
        if pa.types.is_string(table.schema.field(name).type):
            rows = np.flatnonzero(
                pa.compute.match_substring_regex(table.column(name), NOT_XML).fill_null(False)
            )
            if len(rows):
                cell = table.column(name)[int(rows[0])].as_py()
                raise ValueError(
                    f"{name} is {cell!r} in row {rows[0] + 1}, with a control character; write .parquet"
                )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", W50)  # a unit that the standard lacks: dex
        warnings.simplefilter("ignore", W03)  # a name that is no ID in XML: it has one made of it
        document = votable.from_table(astropy_table(table))
    infos = {key: _on_one_line(text, NOT_IN_XML_ATTRIBUTE) for key, text in notes_of(table.schema).items()}
    document.infos.extend(Info(name=key, value=text) for key, text in infos.items())
    document.to_xml(str(path))


def _on_one_line(text: str, unfit: re.Pattern[str]) -> str:
    """Return a text of the metadata, as JSON where the format does not have all its characters."""
    return json.dumps(text) if unfit.search(text) or text.startswith('"') else text


def _as_it_was(text: Any) -> Any:
    """Undo `_on_one_line`."""
    if isinstance(text, str) and text.startswith('"'):
        with suppress(ValueError):
            return json.loads(text)
    return text


PIECEWISE: dict[str, Callable[..., Any]] = {
    ".parquet": pa.parquet.ParquetWriter,
    ".csv": pa.csv.CSVWriter,
}
WHOLE: dict[str, Callable[[pa.Table, Path], None]] = {".fits": _write_fits, ".vot": _write_vot}
WRITTEN = (*PIECEWISE, *WHOLE)
"""How a table is written by the suffix of its file: piece by piece, or whole."""


def astropy_table(table: pa.Table, tree: DecisionTree | None = None) -> Any:
    """Return a catalogue as a table of astropy: units, descriptions and UCDs on its columns, no metadata.

    `tree` is the catalogue's where its metadata may not say it.
    """
    from astropy.table import Table

    result = Table({name: _astropy_column(table.column(name)) for name in table.column_names})
    for name, entry in _described(table, tree).items():
        column = result[name]
        column.unit, column.description = entry["unit"] or None, entry["description"] or None
        column.meta |= {"ucd": entry["ucd"]} if entry["ucd"] else {}
    return result


def _described(table: pa.Table, tree: DecisionTree | None = None) -> dict[str, dict[str, str]]:
    return described(table.schema, tree or noted_tree(notes_of(table.schema)))


def noted_tree(notes: Mapping[str, str]) -> DecisionTree | None:
    """Return the tree that metadata hold, or that of hubblefork which they name (Galaxy Zoo 2's, where none).

    None for another tree, which the run of the catalogue has. Raises TreeError.
    """
    if QUESTIONS in notes:
        return parse_tree(notes[QUESTIONS], "the catalogue")
    name = notes.get(TREE, DEFAULT)
    return load_tree(name) if name in tree_names() else None


def _astropy_column(column: pa.ChunkedArray) -> Any:
    """Return a column for FITS and VOTable, where a missing integer is a number set apart."""
    from astropy.table import MaskedColumn

    missing = column.is_null().to_numpy()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.fill_null("").to_pylist(), dtype=str)
    if missing.any() and pa.types.is_boolean(column.type):
        raise TypeError("a truth value is missing")
    if missing.any() and pa.types.is_integer(column.type):
        values = column.cast(pa.int64()).fill_null(0).to_numpy()
        return MaskedColumn(values, mask=missing, fill_value=np.iinfo(np.int64).min)
    values = column.fill_null(pa.scalar(0).cast(column.type)).to_numpy()
    return MaskedColumn(values, mask=missing) if missing.any() else values
