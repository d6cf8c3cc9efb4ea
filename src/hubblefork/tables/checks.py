"""Whether a folder is a catalogue as docs/catalogue.md specifies it: every fault, not the first.

After the idea of `is_valid_catalog` of the LINCC Frameworks' hats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError, HubbleforkError, TreeError
from hubblefork.io import Fields, Progress, silent
from hubblefork.tables.columns import ID, no_fraction
from hubblefork.tables.names import POSITION, SKY
from hubblefork.tables.shards import (
    OF_SHARES,
    QUESTIONS,
    REJECTS,
    SIDES,
    TREE,
    CatalogueFolder,
    Shard,
    differences,
    missing_shares,
    read_manifest,
    read_refused,
    shard_table,
    sides_of,
    specified,
)
from hubblefork.zoo import DecisionTree, excesses, parse_tree

PREDICTED = ("run", "weights", "recipe", "stamps", "views", "runtime", "version")
"""The metadata of predictions: a shard that names weights has all of them."""
INTERVALS = ("interval_coverage", "intervals")
TOLERANCE = 1e-3
MADE = ("_conditional", "_reach")
"""Columns that follow from the joint fractions; above 1 where those break the tree's sums."""
AT_ONCE = 2**15
NAMED = 3


@dataclass
class Checked:
    """What a folder was found to be: `faults` against the specification, `notes` that are none, its size."""

    path: Path
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shards: int = 0
    galaxies: int = 0
    rejects: int = 0

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note an error as a fault."""
        try:
            yield
        except (HubbleforkError, pa.ArrowException, OSError) as error:
            self.faults.append(_within(self.path, error))

    def __str__(self) -> str:
        amounts = {"galaxies": self.galaxies, "shards": self.shards, "rejects": self.rejects}
        counts = ", ".join(f"{what} {number:,}" for what, number in amounts.items())
        return f"{self.path}: {counts}, faults {len(self.faults):,}"


def check_folder(path: Path, *, progress: Progress = silent) -> Checked:
    """Check a folder against the specification of catalogues; nothing is raised for what is wrong with it.

    A piece of a shard is in memory at a time, and 8 bytes for the id of each galaxy.
    """
    folder, checked, shards = CatalogueFolder(path), Checked(path), list[Shard]()
    if not path.is_dir():
        return Checked(path, [f"{path}: there is no such folder"])
    for one in folder.shards():
        with checked.noting():
            shards.append(folder.read_shard(one))
            checked.rejects += len(read_refused(folder.rejects_file(one)))
    checked.shards, checked.galaxies = len(folder.shards()), sum(shard.galaxies for shard in shards)
    checked.faults += [*_names(folder), *_manifests(folder, shards), *_schemas(shards)]
    hashes = np.empty(checked.galaxies, np.int64)
    rows = 0
    with progress("checking", len(shards)) as advance:
        for shard in shards:
            values = _Values(shard)
            with checked.noting():
                for ids in values.ids():
                    hashes[rows : rows + len(ids)] = [hash(one) for one in ids]
                    rows += len(ids)
            checked.faults += values.faults()
            checked.notes += [*values.notes(), *_unnamed_of(shard)]
            advance(1)
    checked.faults = list(dict.fromkeys([*checked.faults, *_repeated(shards, hashes[:rows])]))
    return checked


# Files and manifests


def _names(folder: CatalogueFolder) -> Iterator[str]:
    """Say which files do not belong there; a dot or _ in front of another name hides it from all readers."""
    shards = folder.shards()
    lists = {folder.rejects_file(path) for path in shards}
    for path in sorted(folder.path.iterdir()):
        if path.name.startswith(".") and ".partial" in path.name:
            yield f"{path.name}: left by a process that was stopped; run its command again, or remove it"
        elif REJECTS.fullmatch(path.name) and path not in lists:
            yield f"{path.name}: rejects of a shard that is not there"
        elif not path.name.startswith((".", "_")) and path not in shards:
            yield f"{path.name}: no shard, but programs that read the folder would take it for one"
    if not shards:
        yield "there are no shards (part-<name>.parquet)"


def _manifests(folder: CatalogueFolder, shards: Sequence[Shard]) -> Iterator[str]:
    read, there = dict[str, Fields](), {shard.path.name: shard for shard in shards}
    for path in sorted(folder.path.glob("_manifest*.json")):
        try:
            read[path.name] = read_manifest(path)
        except CatalogueError as error:
            yield _within(folder.path, error)
    if not read:
        yield "there is no manifest that can be read: the catalogue is not finished"
        return
    of = sorted({manifest["share"][1] for manifest in read.values()})
    if len(of) > 1:
        yield f"there are manifests of {' and of '.join(map(str, of))} shares; keep one kind"
    elif missing := missing_shares(read.values()):
        yield f"of {of[0]} shares {len(missing)} are not finished: {', '.join(map(str, missing))}"
    listed = Counter(entry["file"] for manifest in read.values() for entry in manifest["shards"])
    yield from (f"{name}: listed {times} times in manifests" for name, times in listed.items() if times > 1)
    yield from (f"{name}: no manifest lists this shard" for name in there if name not in listed)
    for name, manifest in read.items():
        yield from (f"{name}: {fault}" for fault in _against(folder, name, manifest, there))


def _against(
    folder: CatalogueFolder, name: str, manifest: Fields, there: Mapping[str, Shard]
) -> Iterator[str]:
    """Compare a manifest with the one that its shards would have today."""
    share, files = tuple(manifest["share"]), {entry["file"]: entry for entry in manifest["shards"]}
    if folder.manifest_file(share).name != name:
        yield f"it is of share {share[0]} of {share[1]}, and has the name of another"
    yield from (f"{file} is listed and not there" for file in files if not (folder.path / file).exists())
    try:
        today = folder.manifest_of(share, [shard for file, shard in there.items() if file in files])
    except HubbleforkError as error:
        yield _within(folder.path, error)
        return
    for entry in today["shards"]:
        said = files[entry["file"]]
        yield from (f"{entry['file']}: {key} is not {said[key]}" for key in entry if said[key] != entry[key])
    counts = ("galaxies", "rejects", "tree", "columns") if files.keys() <= there.keys() else ()
    wrong = [key for key in counts if manifest[key] != today[key]]
    yield from (f"{key} is {str(manifest[key])[:60]}, and its shards have another" for key in wrong)
    notes = {key: text for key, text in today["metadata"].items() if key not in (*OF_SHARES, SIDES)}
    wrong = [key for key, text in notes.items() if manifest["metadata"].get(key) != text]
    yield from (f"metadata: {key} differs from that of its shards" for key in wrong)


# Columns and metadata


def _schemas(shards: Sequence[Shard]) -> Iterator[str]:
    for shard in shards:
        faults = [*_columns(shard), *_metadata(shard)]
        if not shard.schema.equals(shards[0].schema):
            faults.append(f"its columns are not those of {shards[0].path.name}")
        yield from (f"{shard.path.name}: {fault}" for fault in faults)
    yield from (f"metadata of shards differ in {fault}" for fault in differences([s.notes for s in shards]))


def _tree_of(shard: Shard) -> DecisionTree | None:
    with suppress(TreeError):
        return parse_tree(shard.notes.get(QUESTIONS, ""), shard.path.name)
    return None


def _columns(shard: Shard) -> Iterator[str]:
    tree, names = _tree_of(shard), shard.schema.names
    if tree is None:
        yield f"metadata: {QUESTIONS} are no decision tree; columns and fractions are not checked"
        return
    expected = specified(tree)
    types = {name: kind for name, kind in zip(names, shard.schema.types, strict=True) if name in expected}
    yield from (f"the column {name} stands twice" for name, times in Counter(names).items() if times > 1)
    pairs = [POSITION, *((f"{name}_low", f"{name}_high") for name in tree.columns)]
    optional = {name for pair in pairs if not types.keys() & pair for name in pair}
    yield from (f"the column {name} is missing" for name in expected if name not in {*types, *optional})
    wrong = [name for name, kind in types.items() if kind != expected[name]]
    yield from (f"{name} is {types[name]}, not {expected[name]}" for name in wrong)
    if list(types) != [name for name in expected if name in types]:
        yield "its columns stand in another order than in the specification"


def _metadata(shard: Shard) -> Iterator[str]:
    needed = [TREE, QUESTIONS, *(PREDICTED if "weights" in shard.notes else [])]
    needed += INTERVALS if _has_intervals(shard.schema.names) and not [*_unnamed_of(shard)] else []
    yield from (f"metadata: {key} is missing" for key in needed if key not in shard.notes)
    if SIDES in shard.notes:
        try:
            images = sides_of(shard.notes, shard.path).total()
            if images < shard.galaxies:
                yield f"metadata: {SIDES} are of {images} images, and there are {shard.galaxies} galaxies"
        except CatalogueError as error:
            yield _within(shard.path, error)


def unnamed(names: Collection[str], notes: Collection[str]) -> Iterator[str]:
    """Say of a table's columns and the keys of its metadata that they have intervals of unknown coverage.

    A CSV has no metadata. Where some are there, the others were lost.
    """
    if _has_intervals(names) and not {*INTERVALS, *PREDICTED} & {*notes}:
        yield "it names neither the coverage of its intervals nor the network that made them"


def _unnamed_of(shard: Shard) -> Iterator[str]:
    return (f"{shard.path.name}: {text}" for text in unnamed(shard.schema.names, shard.notes))


def _has_intervals(names: Collection[str]) -> bool:
    return any(name.endswith("_low") for name in names)


# Values


class _Values:
    """What is wrong with the values of a shard: how often, and of which galaxy first."""

    def __init__(self, shard: Shard) -> None:
        self.shard, self.tree = shard, _tree_of(shard)
        self.found: dict[str, tuple[int, str]] = {}
        self.broken = 0

    def faults(self) -> Iterator[str]:
        for what, (times, first) in self.found.items():
            yield f"{self.shard.path.name}: {what}: {times} of the galaxies, first {ID} {first}"

    def notes(self) -> Iterator[str]:
        if self.broken:
            yield (
                f"{self.shard.path.name}: {self.broken} questions about galaxies have fractions whose sum is "
                f"more than {TOLERANCE} from the tree's"
            )

    def ids(self) -> Iterator[list[str | None]]:
        """Check the shard, and yield its ids a piece at a time."""
        with pa.parquet.ParquetFile(self.shard.path) as file:
            for batch in file.iter_batches(AT_ONCE):
                piece = pa.Table.from_batches([batch])
                ids = piece.column(ID).to_pylist() if ID in piece.column_names else []
                if self.tree is not None and ids:
                    for what, wrong in _wrong(piece, self.tree):
                        self._note(what, np.flatnonzero(wrong), ids)
                    self.broken += _broken(piece, self.tree)
                yield ids

    def _note(self, what: str, rows: NDArray[np.intp], ids: list[str | None]) -> None:
        if len(rows):
            times, first = self.found.get(what, (0, str(ids[rows[0]])))
            self.found[what] = times + len(rows), first


def _wrong(piece: pa.Table, tree: DecisionTree) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield what may be wrong with galaxies, and with which it is: (galaxy,)."""
    ids = piece.column(ID).cast(pa.string())
    yield f"no {ID}", pa.compute.equal(ids, "").fill_null(True).to_numpy()
    values = _floats(piece, specified(tree))
    for name, column in values.items():
        yield f"{name} is NaN, and not null", np.isnan(column) & piece.column(name).is_valid().to_numpy()
        if name in SKY:
            low, high = SKY[name]
            yield f"{name} is outside {low} to {high}", (column < low) | (column > high)
        elif tree.number:
            yield f"{name} is infinite", np.isinf(column)
        elif not name.endswith(MADE):
            yield f"{name} is outside 0 to 1", no_fraction(column)
    if set(POSITION) <= values.keys():
        yield "ra without dec, or dec without ra", _missing_apart(*(values[name] for name in POSITION))
    for name in tree.columns:
        if {f"{name}_low", f"{name}_high"} <= values.keys():
            yield f"{name}_low is above {name}_high", values[f"{name}_low"] > values[f"{name}_high"]
    yield from _made_otherwise(piece, tree, values)


def _floats(piece: pa.Table, names: Collection[str]) -> dict[str, NDArray]:
    """Return those columns that hold floating-point numbers, NaN where null."""
    chosen = [
        field.name for field in piece.schema if pa.types.is_floating(field.type) and field.name in names
    ]
    return {name: piece.column(name).to_numpy() for name in chosen if chosen.count(name) == 1}


def _made_otherwise(
    piece: pa.Table, tree: DecisionTree, values: Mapping[str, NDArray]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Compare reach and conditional fractions with those that the joint ones give."""
    if not set(tree.columns) <= values.keys():
        return
    made = shard_table(piece.select([ID, *tree.columns]), tree)
    reaches = [f"{tree.questions[number].name}_reach" for number in tree.question_of]
    of = dict(zip((f"{name}_conditional" for name in tree.columns), reaches, strict=True))
    for name in made.column_names[1 + len(tree.columns) :]:
        if name in values:
            ours, given = made.column(name).to_numpy(), values[name]
            enough = made.column(of[name]).to_numpy() > TOLERANCE if name in of else True
            far = (np.abs(given - ours) > TOLERANCE) & enough
            yield f"{name} is not what the fractions give", far | _missing_apart(given, ours)


def _broken(piece: pa.Table, tree: DecisionTree) -> int:
    """Count questions about galaxies whose answers do not sum to what the tree says."""
    values = _floats(piece, tree.columns)
    if not {*tree.columns} <= values.keys():
        return 0
    joint = np.stack([values[name] for name in tree.columns], axis=1)
    return int(np.count_nonzero(np.abs(excesses(tree, joint)) > TOLERANCE))


def _missing_apart(one: NDArray, other: NDArray) -> NDArray[np.bool_]:
    return np.isnan(one) != np.isnan(other)


def _repeated(shards: Sequence[Shard], hashes: NDArray[np.int64]) -> Iterator[str]:
    """Say which ids stand more than once, and where; `hashes` (galaxy,) are sorted in place."""
    hashes.sort()
    twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    places: dict[str, list[str]] = {}
    for shard in shards if twice else []:
        for ids in _Values(shard).ids():
            for one in ids:
                if hash(one) in twice and one is not None:
                    places.setdefault(one, []).append(shard.path.name)
    again = {one: files for one, files in places.items() if len(files) > 1}
    for one, files in list(again.items())[:NAMED]:
        yield f"{ID} {one} stands {len(files)} times: {', '.join(dict.fromkeys(files))}"
    if len(again) > NAMED:
        yield f"{len(again)} ids stand more than once, {NAMED} of them are named"


def _within(folder: Path, error: Exception) -> str:
    return str(error).removeprefix(str(folder)).lstrip("/: ")
