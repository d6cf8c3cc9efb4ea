"""What the names and the cells of a table mean: ids, numbers, fractions and what stands for a missing value.

Every table that a user gives goes by these rules, whatever its format:

- An id is text, unless it is exactly an integer's own spelling: 7 is an integer, 007 is not. 100008.0 is
  100008 while a float holds every digit, below 2^53. Where all ids are names of image files (100008.jpg),
  each is that file's.
- An empty cell, NA, NaN, null, N/A, None and - are missing values. True and false are 1 and 0.
- A fraction lies between 0 and 1; what is beyond by rounding alone counts as 0 or 1. A number is finite.
- A class is text, or an integer: 2.0 is 2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.tables.names import Target, galaxy_id_of, is_image
from hubblefork.zoo import DecisionTree
from hubblefork.zoo.votes import TOLERANCE

ID = "galaxy_id"
IDS = (ID, "GalaxyID")
PUBLISHED_IDS = ("id_str", "iauname", "dr7objid", "dr8_id", "object_id")
BRICK = ("brickid", "objid")
TARGETS = {
    "ra": ("ra", "right_ascension"),
    "dec": ("dec", "declination"),
    "petro_r90": ("petro_r90", "petro_th90", "petror90_r"),
}
"""The columns of right ascension and declination in degrees, and of the Petrosian radius R90 in arcsec."""
MISSING = frozenset(("", "na", "nan", "-nan", "null", "none", "n/a", "#n/a", "<na>", "-", "--", r"\n"))
"""What stands for a missing value, in small letters."""
SENTINELS = (-1, -9, -99, -999, -9999, 99, 999, 9999)
PER_CENT = 100
LARGEST = 2**53  # below it a float holds every integer
NUMBER = r"^[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?$|^[+-]?inf(inity)?$"
FLOAT_ID = re.compile(r"[+-]?\d+[.,]\d*[eE][+-]?\d+|[+-]?\d+[eE][+-]\d+|[+-]?\d+[.,]0*")
WHOLE_ID = re.compile(r"(-?[1-9]\d{0,15}|0)[.,]0*")
GALAXY_ZOO_SUFFIXES = ("_debiased", "_weighted_fraction", "_fraction", "_count", "_weight")
LISTED = 5
DIGITS_LOST = f"{ID} is a floating-point number: digits are lost"


# Names


def id_columns(names: Sequence[str]) -> list[str]:
    """Return the columns that may hold the ids: galaxy_id or GalaxyID, else others spelled alike, else those
    of published catalogues, of which `brickid` and `objid` are one id together.
    """
    alike = [name for name in names if re.sub(r"[\s_-]", "", name).casefold() == "galaxyid"]
    possible = [name for name in IDS if name in names] or alike
    folded = {name.strip().casefold(): name for name in names}
    published = [folded[name] for name in PUBLISHED_IDS if name in folded][:1]
    return possible or published or [folded[name] for name in BRICK if folded.keys() >= {*BRICK}]


def id_name(names: Sequence[str]) -> str:
    """Return the name of the column of ids. Raises CatalogueError where there is none, or several."""
    possible = id_columns(names)
    if len(possible) == 1 or possible[:1] == [ID]:
        return possible[0]
    _check_once(names, IDS)
    near = did_you_mean(ID, names) or (f"; it has {_listed(names)}" if names else "")
    raise CatalogueError(f'there is no column "{ID}" (nor "GalaxyID"){near}')


def with_id(table: pa.Table) -> pa.Table:
    """Return a table with `galaxy_id`, "brickid_objid", where only these two together name the galaxies."""
    names = id_columns(table.column_names)
    if [name.strip().casefold() for name in names] != list(BRICK):
        return table
    parts = [table.column(name).cast(pa.string()) for name in names]
    return table.append_column(ID, pc.binary_join_element_wise(*parts, "_"))


def chosen(names: Sequence[str], only: Collection[str] | None) -> list[str]:
    """Return the names of the ids and of `only` these columns, in upper or lower case; None for all."""
    kept, folded = set(id_columns(names)), {name.casefold() for name in only or ()}
    return [name for name in names if only is None or name in kept or name.strip().casefold() in folded]


def unique(names: Sequence[str]) -> list[str]:
    """Return names without spaces around them; those that stand several times are numbered: "a (1 of 2)"."""
    bare = [name.strip() for name in names]
    times, before, numbered = Counter(bare), Counter[str](), []
    for name in bare:
        before[name] += 1
        numbered.append(name if times[name] == 1 else f"{name} ({before[name]} of {times[name]})")
    return numbered


def columns_of_answers(names: Sequence[str], tree: DecisionTree, answers: Sequence[str]) -> list[str]:
    """Return the columns of some answers: named as these or as the source names them, in upper or lower case.

    Raises CatalogueError, in one line, for columns that are not there.
    """
    sources = dict(zip(tree.columns, tree.source_columns, strict=True))
    places = [
        [column_named(names, name) for name in spelled]
        for spelled in (answers, [sources[answer] for answer in answers])
    ]
    own, source = (sum(name is not None for name in side) for side in places)
    spelled, columns = (answers, places[0]) if own >= source else ([sources[a] for a in answers], places[1])
    missing = [name for name, column in zip(spelled, columns, strict=True) if column is None]
    if missing:
        _check_once(names, missing)
        raise CatalogueError(_columns_missing(names, missing, tree, len(answers)))
    return [column for column in columns if column is not None]


def column_named(names: Collection[str], name: str) -> str | None:
    """Return the column of this name, else the only one that differs in letter case; None without."""
    if name in names:
        return name
    near = [other for other in names if other.casefold() == name.casefold()]
    return near[0] if len(near) == 1 else None


def _check_once(names: Collection[str], asked: Sequence[str]) -> None:
    for name in asked:
        again = re.compile(rf"{re.escape(name)} \(1 of (\d+)\)", re.IGNORECASE)
        times = next((match[1] for match in map(again.fullmatch, names) if match), None)
        if times:
            raise CatalogueError(f'the column "{name}" stands {times} times; keep one')


def _columns_missing(names: Collection[str], missing: Sequence[str], tree: DecisionTree, total: int) -> str:
    others = [name for name in names if name not in (*tree.columns, *tree.source_columns)]
    counted = f"{len(missing)} of the {total} columns of {tree.name} are missing"
    endings = [end for end in GALAXY_ZOO_SUFFIXES if any(name.endswith(end) for name in others)]
    with_ending = [
        (name, name + end) for end in endings for name in missing if column_named(names, name + end)
    ]
    if with_ending:
        plain, ending = with_ending[0]
        return (
            f'{counted}; the table has "{ending}" for {plain}. If its columns are joint fractions, '
            f'rename them without "{ending.removeprefix(plain)}"; multiply vote fractions down the tree first'
        )
    if len(missing) > LISTED and endings:
        example = next(name for name in others if name.endswith(endings[0]))
        return (
            f'{counted}; its names end in {", ".join(endings)} ("{example}"), as in published tables of '
            "Galaxy Zoo. `hubblefork fetch gz2` turns the table of Galaxy Zoo 2 into labels"
        )
    nearest = {name: get_close_matches(name, missing, n=1, cutoff=0.5) for name in others}
    near = [name + did_you_mean(name, [o for o in others if nearest[o] == [name]]) for name in missing]
    there = f". The table has {_listed(list(names))}" if len(missing) == total else ""
    return f"{counted}: {_listed(near)}{there}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > LISTED else ""
    return ", ".join(name[:60] for name in (names[:3] if more else names)) + more


# Cells


def numbers(column: pa.ChunkedArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a column as numbers, NaN where a value is missing, and which cells are no numbers: (row,)."""
    kind, nothing = column.type, np.zeros(len(column), dtype=bool)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        try:
            return column.cast(pa.float64()).to_numpy(), nothing
        except pa.ArrowException:
            return np.full(len(column), np.nan), column.is_valid().to_numpy()
    cells = pc.utf8_lower(pc.utf8_trim_whitespace(column))
    cells = pc.if_else(pc.is_in(cells, pa.array(sorted(MISSING), cells.type)), None, cells)
    for word, number in (("true", "1"), ("false", "0")):
        cells = pc.if_else(pc.equal(cells, word), number, cells)
    right = pc.match_substring_regex(cells, NUMBER).fill_null(True)
    texts = pc.replace_substring(pc.if_else(right, cells, None), ",", ".")
    return texts.cast(pa.float64()).to_numpy(), ~right.to_numpy()


def targets_in(table: pa.Table) -> list[Target]:
    """Return what a table says of the galaxy of each row; nothing where it has no such columns.

    A cell that is no number is NaN, which is no position; a radius that is not above 0 is unknown.
    """
    found = {
        key: next((name for each in spellings if (name := column_named(table.column_names, each))), None)
        for key, spellings in TARGETS.items()
    }
    if not any(found.values()):
        return []
    columns = []
    for key, name in found.items():
        values, bad = numbers(table.column(name)) if name else (np.full(len(table), np.nan), np.False_)
        missing = np.isnan(values) & ~bad if key != "petro_r90" else ~(values > 0)
        columns.append(pa.array(values, mask=missing).to_pylist())
    return [Target(*row) for row in zip(*columns, strict=True)]


def classes_in(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of classes as text, null where one is missing; integers as they are written."""
    if pa.types.is_floating(column.type):
        values, _ = numbers(column)
        whole = bool(np.all(np.isnan(values) | (values == np.trunc(values))))
        column = pa.chunked_array([pa.array(values, from_pandas=True)])
        column = column.cast(pa.int64()) if whole else column
    cells = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.is_in(pc.utf8_lower(cells), pa.array(sorted(MISSING))), None, cells)


def no_fraction(values: NDArray) -> NDArray[np.bool_]:
    """Say which values are no fractions, missing ones aside: beyond 0 and 1 by more than rounding."""
    return (values < -TOLERANCE) | (values > 1 + TOLERANCE)


def fraction_remedy(value: float, others: NDArray) -> str:
    """Say what is allowed, and what a value that is no fraction may stand for in a column of `others`."""
    allowed = "a fraction lies between 0 and 1"
    if 1 < value <= PER_CENT and np.nanmin(others) >= 0 and np.nanmax(others) <= PER_CENT and value != 99:
        return f"{allowed}; divide by 100 what is in per cent"
    if value in SENTINELS:
        return f"{allowed}; if {value:g} stands for a missing value, say so: --missing {value:g}"
    return allowed


def is_apart(value: float, others: NDArray) -> bool:
    """Whether a value that often stands for a missing one lies as far from all others as these spread."""
    rest = others[~np.isnan(others) & (others != value)]
    if value not in SENTINELS or not len(rest):
        return False
    return bool(np.abs(rest - value).min() > np.ptp(rest))


def apart_remedy(value: float) -> str:
    """Say what to do about such a value."""
    return (
        f"no other value is near it: if it stands for a missing value, say so: --missing {value:g}; "
        "if not, leave the row out"
    )


def without(table: pa.Table, missing: Collection[float]) -> pa.Table:
    """Return a table in which exactly these numbers are missing values, in all columns but the ids."""
    gone = pa.array([*missing], pa.float64())
    if not len(gone):
        return table
    ids = id_columns(table.column_names)
    for place, name in enumerate(table.column_names):
        column = table.column(place)
        if name not in ids and not pa.types.is_nested(column.type):
            values, _ = numbers(column)
            table = table.set_column(place, name, pc.if_else(pc.is_in(pa.array(values), gone), None, column))
    return table


def ids_of(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, dict[int, tuple[str, str]]]:
    """Return ids as text, null where they are missing or lost digits, and for these rows reason and value.

    Raises CatalogueError for a column that is neither text nor numbers.
    """
    kind, faults = column.type, dict[int, tuple[str, str]]()
    if pa.types.is_floating(kind):
        values = column.cast(pa.float64()).to_numpy()
        whole = (np.abs(values) < LARGEST) & (values == np.trunc(values))
        lost = np.flatnonzero(~whole & ~np.isnan(values))
        faults = {row: (DIGITS_LOST, f'"{values[row]!s}"') for row in lost.tolist()}
        texts = pa.array(np.where(whole, values, 0).astype(np.int64)).cast(pa.string())
        texts = pc.if_else(pa.array(whole), texts, None)
    elif pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        texts = column.cast(pa.string())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
    else:
        raise CatalogueError(f"{ID} holds {kind}; allowed are 64-bit integers and text")
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    if not pa.types.is_integer(kind):
        texts = _of_files(texts)
        floats = pc.match_substring_regex(texts, r"^[+-]?\d+([.,]\d*)?([eE][+-]?\d+)?$")
        whole = pc.match_substring_regex(texts, r"^[+-]?\d+$")
        suspect = pc.and_not(floats, whole).fill_null(False).to_numpy(zero_copy_only=False)
        texts = _without_decimals(texts, np.flatnonzero(suspect).tolist(), faults)
    for row in np.flatnonzero(texts.is_null().to_numpy(zero_copy_only=False)).tolist():
        faults.setdefault(row, (f"no {ID}", f'"{column[row].as_py() or ""}"'))
    return pa.chunked_array([texts]) if isinstance(texts, pa.Array) else texts, faults


def _without_decimals(texts: pa.Array, rows: Sequence[int], faults: dict[int, tuple[str, str]]) -> pa.Array:
    """Return ids without the ".0" of a float, null where that may have lost digits, which is noted."""
    values = texts.to_pylist() if rows else []
    for row in rows:
        if match := WHOLE_ID.fullmatch(values[row]):
            values[row] = match[1] if abs(int(match[1])) < LARGEST else None
        elif FLOAT_ID.fullmatch(values[row]):
            values[row] = None
        if values[row] is None:
            faults[row] = DIGITS_LOST, f'"{texts[row].as_py()}"'
    return pa.array(values, pa.string()) if rows else texts


def _of_files(texts: pa.Array) -> pa.Array:
    """Return the ids of image files where all are names of such."""
    present = texts.drop_null()
    if not len(present) or not all(is_image(name.as_py()) for name in present.slice(0, 1)):
        return texts
    names = texts.to_pylist()
    if not all(name is None or is_image(name) for name in names):
        return texts
    return pa.array([name and galaxy_id_of(name) for name in names], pa.string())
