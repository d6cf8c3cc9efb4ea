"""A catalogue as a folder: Parquet shards, what was refused, and a manifest of each complete share.

    part-<name>.parquet      a shard; any number of them, all with the same columns
    _rejects-<name>.csv      member and reason of what could not be predicted, where there is anything
    _manifest.json           written last, when all is there; `_manifest-3-of-64.json` of one share of 64

`docs/catalogue.md` is the specification. pandas, pyarrow.dataset and DuckDB read the folder as one table.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from hubblefork.errors import CatalogueError
from hubblefork.io import Fields, clear_partial, digest_of, read_json, relative, replacing, write_text
from hubblefork.tables.columns import ID, chosen
from hubblefork.tables.names import POSITION
from hubblefork.tables.rejects import read_texts
from hubblefork.zoo import DecisionTree, parse_tree, reach, to_conditional, tree_text

FORMAT = "hubblefork catalogue 1"
TREE, QUESTIONS, FOLDER = "tree", "questions", "folder"
MARKS, SIDES = "marks", "sides"
OF_SHARES = ("sources", "scale")
"""The metadata in which the shares of a catalogue may differ."""
WHOLE = (1, 1)
ROWS = 2**17
SHARD, REJECTS = re.compile(r"part-.+\.parquet"), re.compile(r"_rejects-.+\.csv")
MANIFEST = re.compile(r"_manifest(-(\d+)-of-(\d+))?\.json")
OURS = re.compile(
    rf"{SHARD.pattern}|{REJECTS.pattern}|_manifest.*\.json|\.(part-|_rejects-|_manifest).+\.partial\.\w+"
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FRACTION = ("", "stat.probability", "fraction of all volunteers")
KINDS = {
    **{"share": list, "galaxies": int, "rejects": int, "tree": str},
    **{"columns": dict, "metadata": dict, "shards": list},
}
ENTRY = {"file", "galaxies", "sha256"}
Share = tuple[int, int]


class Shard(NamedTuple):
    """What the end of a shard's file says: its number of galaxies, its columns, its metadata as text."""

    path: Path
    galaxies: int
    schema: pa.Schema
    notes: dict[str, str]


@dataclass(frozen=True)
class CatalogueFolder:
    """A folder of shards. Nothing is locked here: whoever writes it, or a share of it, holds that alone.

    A manifest is to be removed before a shard of its share is written again.
    """

    path: Path

    def shards(self) -> list[Path]:
        """Return the files of all shards that are there, sorted by name."""
        return sorted(path for path in self.path.glob("part-*.parquet") if SHARD.fullmatch(path.name))

    def shard_file(self, name: str) -> Path:
        """Return the file of a shard. Raises CatalogueError for a name that no shard may have."""
        if not NAME.fullmatch(name):
            raise CatalogueError(f'"{name}" names no shard: allowed are letters, digits, ".", "_" and "-"')
        return self.path / f"part-{name}.parquet"

    def manifest_file(self, share: Share = WHOLE) -> Path:
        """Return the manifest of a share, (3, 64): the third of 64; it is there once the share is whole."""
        return self.path / (
            "_manifest.json" if share == WHOLE else f"_manifest-{share[0]}-of-{share[1]}.json"
        )

    def write_shard(self, name: str, table: pa.Table, rejects: Sequence[tuple[str, str]] = ()) -> Path:
        """Write a shard, a table of `shard_table` with its metadata, and before it what was refused of it.

        Both are whole or absent, and replace those of the same name; a shard that is there is complete.
        `rejects` are members with the reason. Run paths in the metadata are written as seen from the folder.
        Raises DiskError.
        """
        path = self.shard_file(name)
        refused = self.rejects_file(path)
        clear_partial(path, refused)
        write_refused(refused, rejects)
        notes = notes_of(table.schema)
        if FOLDER not in notes:
            table = table.replace_schema_metadata({**notes, **run_seen_from(notes, self.path)})
        with replacing(path) as temporary:
            pa.parquet.write_table(table, temporary, compression="zstd", row_group_size=ROWS)
        return path

    def read_shard(self, path: Path) -> Shard:
        """Return what the end of a shard's file says. Raises CatalogueError where it cannot be read."""
        try:
            footer = pa.parquet.read_metadata(path)
            schema = footer.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            raise CatalogueError(f"{path}: not a readable shard: {error}; predict it anew") from error
        return Shard(path, footer.num_rows, schema, notes_of(schema))

    def finish(
        self,
        share: Share = WHOLE,
        metadata: Mapping[str, str] | None = None,
        names: Collection[str] | None = None,
    ) -> Path:
        """Write the manifest of a share: its shards are complete. `names` are its shards, None for all there.

        `metadata` is added to what the metadata of the shards have in common. Raises CatalogueError where
        there is no shard (a share may have none), or where shards have other columns or metadata than the
        first; DiskError.
        """
        paths = self.shards() if names is None else sorted(map(self.shard_file, names))
        manifest = self.manifest_of(share, [self.read_shard(path) for path in paths])
        manifest["metadata"] |= metadata or {}
        path = self.manifest_file(share)
        clear_partial(path)
        write_text(path, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        return path

    def manifest_of(self, share: Share, shards: Sequence[Shard]) -> dict[str, Any]:
        """Return what the manifest of a share with these shards says. Raises as `finish` does."""
        if not shards and share == WHOLE:
            raise CatalogueError(f"{self.path}: a catalogue has at least one shard, and there is none")
        for shard in shards[1:]:
            if not shard.schema.equals(shards[0].schema):
                raise CatalogueError(
                    f"{shard.path}: other columns than {shards[0].path.name}; all shards have the same ones"
                )
        notes = merged([shard.notes for shard in shards], self.path)
        paths = [shard.path for shard in shards]
        return {
            "format": FORMAT,
            "share": list(share),
            "galaxies": sum(shard.galaxies for shard in shards),
            "rejects": sum(len(read_refused(self.rejects_file(path))) for path in paths),
            "tree": notes.get(TREE, ""),
            "columns": described(shards[0].schema, parse_tree(notes.get(QUESTIONS, ""), str(self.path)))
            if shards
            else {},
            "metadata": notes,
            "shards": [
                {"file": path.name, "galaxies": shard.galaxies, "sha256": digest_of(path)}
                for path, shard in zip(paths, shards, strict=True)
            ],
        }

    def rejects_file(self, shard: Path) -> Path:
        """Return the list of what was refused of a shard."""
        return self.path / f"_rejects-{shard.stem.removeprefix('part-')}.csv"

    def rejects(self, name: str) -> list[tuple[str, str]]:
        """Return member and reason of what was refused of a shard. Raises CatalogueError."""
        return read_refused(self.rejects_file(self.shard_file(name)))

    def galaxies(self, name: str) -> int:
        """Return the number of galaxies in a shard. Raises CatalogueError."""
        return self.read_shard(self.shard_file(name)).galaxies

    def foreign(self) -> list[str]:
        """Return the names of files in the folder that are none of a catalogue."""
        return [path.name for path in self.path.iterdir() if not OURS.fullmatch(path.name)]

    def remove(self, shard: Path) -> None:
        """Remove a shard and what was refused of it."""
        for path in (shard, self.rejects_file(shard)):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all files of the catalogue, its manifests first."""
        files = [path for path in self.path.iterdir() if OURS.fullmatch(path.name)]
        for path in sorted(files, key=lambda path: not MANIFEST.fullmatch(path.name)):
            path.unlink(missing_ok=True)

    # Reading

    def manifests(self) -> list[Fields]:
        """Return the manifests of the complete shares, sorted by share. Raises CatalogueError."""
        found = [path for path in self.path.glob("_manifest*.json") if MANIFEST.fullmatch(path.name)]
        manifests = [read_manifest(path) for path in found]
        return sorted(manifests, key=lambda manifest: manifest["share"])

    def check_finished(self) -> list[Fields]:
        """Return the manifests of all shares. Raises CatalogueError that says how a folder is finished."""
        manifests = self.manifests()
        if not manifests:
            raise CatalogueError(
                f"{self.path}: the catalogue is not finished: {len(self.shards())} shards and no manifest; "
                "run the command that began it again (`hubblefork predict … --out` this folder): it goes on"
            )
        of = {manifest["share"][1] for manifest in manifests}
        if len(of) > 1:
            raise CatalogueError(
                f"{self.path}: shares of {' and of '.join(map(str, sorted(of)))}; keep one kind"
            )
        missing = missing_shares(manifests)
        if missing:
            raise CatalogueError(
                f"{self.path}: of {max(of)} shares {len(missing)} are not finished: "
                f"{', '.join(map(str, missing[:10]))}{' …' * (len(missing) > 10)}; run "
                f"`hubblefork predict … --shard {missing[0]}/{max(of)}` with the same images and output"
            )
        listed = sorted(shard["file"] for manifest in manifests for shard in manifest["shards"])
        if listed != [path.name for path in self.shards()]:
            raise CatalogueError(
                f"{self.path}: its shards are not those that its manifest lists; "
                f"`hubblefork catalogue check {self.path}` says which"
            )
        return manifests

    def head(self) -> pa.Table:
        """Return columns and metadata of a finished catalogue, without a row. Raises CatalogueError."""
        notes = [manifest["metadata"] for manifest in self.check_finished() if manifest["shards"]]
        return (
            self.read_shard(self.shards()[0])
            .schema.empty_table()
            .replace_schema_metadata(merged(notes, self.path))
        )

    def batches(self, only: Collection[str] | None = None, rows: int = ROWS) -> Iterator[pa.Table]:
        """Yield ids and columns of a finished catalogue, at most `rows` galaxies at a time; as `head` raises.

        One piece is in memory, whatever the size of the catalogue.
        """
        head = self.head()
        columns = chosen(head.column_names, only)
        for path in self.shards():
            with pa.parquet.ParquetFile(path) as file:
                for piece in file.iter_batches(rows, columns=columns):
                    yield pa.Table.from_batches([piece]).replace_schema_metadata(head.schema.metadata)

    def read(self, only: Collection[str] | None = None) -> pa.Table:
        """Return a finished catalogue; with `only`, the ids and those columns. Raises CatalogueError."""
        head = self.head()
        return pa.concat_tables([head.select(chosen(head.column_names, only)), *self.batches(only)])


def is_catalogue_folder(path: Path) -> bool:
    """Whether a path is a folder with a shard or a manifest of a catalogue in it."""
    return path.is_dir() and any(
        SHARD.fullmatch(entry.name) or MANIFEST.fullmatch(entry.name) for entry in path.iterdir()
    )


def shard_table(table: pa.Table, tree: DecisionTree) -> pa.Table:
    """Return a catalogue of joint fractions (galaxy, answer) with all columns of a shard, in their order.

    Numbers have the types of the specification, and ids become text. ra and dec (degrees) stay where they
    are; null fractions stay null. Conditional fractions are null where nobody is asked. Columns beside these
    (intervals) follow. Names and questions of the tree are added to the metadata. Raises CatalogueError where
    a column would stand twice.
    """
    joint = np.stack([table.column(name).cast(pa.float64()).to_numpy() for name in tree.columns], axis=1)
    names = _made(tree)
    made = dict(zip(names, np.hstack([to_conditional(tree, joint), reach(tree, joint)]).T, strict=False))
    if ours := [name for name in names if name in tree.columns]:
        raise CatalogueError(f'an answer of {tree.name} is named "{ours[0]}", as a column of the catalogue')
    places = [name for name in POSITION if name in table.column_names]
    columns = {name: table.column(name) for name in (ID, *places, *tree.columns)}
    columns |= {name: pa.array(v, pa.float32(), mask=np.isnan(v)) for name, v in made.items()}
    columns |= {name: table.column(name) for name in table.column_names if name not in columns}
    for name in columns.keys() & (kinds := specified(tree)).keys():
        if not pa.types.is_string(columns[name].type):
            columns[name] = columns[name].cast(kinds[name])
    notes = {**notes_of(table.schema), TREE: tree.name, QUESTIONS: tree_text(tree)}
    return pa.table(columns).replace_schema_metadata(notes)


def specified(tree: DecisionTree) -> dict[str, pa.DataType]:
    """Return the columns that a shard has by the specification, in their order, with their types.

    Those of `POSITION` and the ends of intervals (`_low`, `_high`) may be absent.
    """
    ends = [f"{name}_{end}" for name in tree.columns for end in ("low", "high")]
    kinds = {ID: pa.string(), **dict.fromkeys(POSITION, pa.float64())}
    return kinds | dict.fromkeys([*tree.columns, *_made(tree), *ends], pa.float32())


def _made(tree: DecisionTree) -> list[str]:
    """Return the columns that follow from the joint fractions; none from a number."""
    made = [f"{name}_conditional" for name in tree.columns] + [f"{q.name}_reach" for q in tree.questions]
    return [] if tree.number else made


def described(schema: pa.Schema, tree: DecisionTree | None) -> dict[str, dict[str, str]]:
    """Return type, unit, description and UCD (UCD1+ of the IVOA) of each column of a catalogue.

    Without its tree only ids and positions are described; others have empty texts.
    """
    texts = {ID: ("", "name of the galaxy", "meta.id;meta.main")}
    texts["ra"] = ("deg", "right ascension (ICRS)", "pos.eq.ra;meta.main")
    texts["dec"] = ("deg", "declination (ICRS)", "pos.eq.dec;meta.main")
    for question in tree.questions if tree else ():
        asked = f"fraction of volunteers who are asked: {question.text}"
        texts[f"{question.name}_reach"] = ("", asked, "stat.probability")
        unit, ucd, of = (question.number.unit, "stat.value", "number") if question.number else FRACTION
        for answer in question.answers:
            text = f"{question.text} {answer.text or answer.name}"
            texts |= {
                answer.name: (unit, f"{of}: {text}", ucd),
                f"{answer.name}_conditional": ("", f"fraction of those asked: {text}", "stat.probability"),
                f"{answer.name}_low": (unit, f"lower end: {text}", f"{ucd};stat.min"),
                f"{answer.name}_high": (unit, f"upper end: {text}", f"{ucd};stat.max"),
            }
    fields = [(field, texts.get(field.name, ("", "", ""))) for field in schema]
    return {
        field.name: {"type": str(field.type), "unit": unit, "description": text, "ucd": ucd}
        for field, (unit, text, ucd) in fields
    }


def notes_of(schema: pa.Schema) -> dict[str, str]:
    """Return the metadata of a schema as text."""
    entries = (schema.metadata or {}).items()
    return {
        key.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
        for key, value in entries
    }


def run_seen_from(notes: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the entries that name a run as it is seen from a folder; none where the run is not there."""
    run = notes.get("run", "")
    if not run or not Path(run).exists():
        return {}
    return {"run": relative(Path(run), folder), FOLDER: str(folder.resolve())}


def read_refused(path: Path) -> list[tuple[str, str]]:
    """Return member and reason of what was refused; nothing where there is no such file.

    Raises CatalogueError.
    """
    if not path.exists():
        return []
    try:
        return [(row["member"], row["reason"]) for row in read_texts(path, ("member", "reason"))]
    except (pa.ArrowException, KeyError) as error:
        raise CatalogueError(f"{path}: not a readable list of rejects: {error}; predict anew") from error


def write_refused(path: Path, rejects: Sequence[tuple[str, str]]) -> None:
    """Write member and reason of what was refused; no file where there is nothing. Raises DiskError."""
    if not rejects:
        path.unlink(missing_ok=True)
        return
    members, reasons = zip(*rejects, strict=True)
    with replacing(path) as temporary:
        pa.csv.write_csv(pa.table({"member": list(members), "reason": list(reasons)}), temporary)


def missing_shares(manifests: Iterable[Mapping]) -> list[int]:
    """Return the numbers of the shares that have no manifest, from 1."""
    there = [manifest["share"] for manifest in manifests]
    return sorted(set(range(1, max(of for _, of in there) + 1)) - {number for number, _ in there})


def merged(entries: Sequence[Mapping[str, str]], folder: Path) -> dict[str, str]:
    """Return the metadata of parts as one: sides are added up, sources and scale stand side by side.

    Raises CatalogueError where the parts differ in anything else, marks aside.
    """
    values = _values(entries)
    for fault in differences(entries):
        raise CatalogueError(f"{folder}: its parts differ in {fault}; predict all of it in the same way")
    sides = [sides_of(notes, folder) for notes in entries if SIDES in notes]
    if sides:
        values[SIDES] = [json.dumps(dict(sum(sides, Counter())))]
    return {key: " ".join(filter(None, several)) for key, several in values.items()}


def sides_of(notes: Mapping[str, str], place: Path) -> Counter[int]:
    """Return how many images have each shorter side in pixels. Raises CatalogueError where that is unsaid."""
    try:
        sides = Counter({int(side): int(images) for side, images in json.loads(notes[SIDES]).items()})
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CatalogueError(f"{place}: metadata: {SIDES} are no JSON of numbers: {error}") from error
    return sides


def differences(entries: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Say in which metadata parts of a catalogue differ that should not."""
    for key, several in _values(entries).items():
        if len(several) > 1 and key not in OF_SHARES:
            yield f"{key}: {several[0][:60]!r} and {several[1][:60]!r}"


def _values(entries: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the different values of each entry but marks and sides, which are of a shard alone."""
    keys = dict.fromkeys(key for key in chain(*entries) if key not in (MARKS, SIDES))
    return {key: list(dict.fromkeys(notes.get(key, "") for notes in entries)) for key in keys}


def read_manifest(path: Path) -> Fields:
    """Read a manifest. Raises CatalogueError for one that is not as the specification says."""
    remedy = "copy the catalogue anew, or run the command that made it again"
    manifest = read_json(path, CatalogueError, remedy)
    manifest.check(KINDS)
    if manifest["format"] != FORMAT:
        raise CatalogueError(f'{path}: of format "{manifest["format"]}", not "{FORMAT}"; {remedy}')
    wrong = [
        what
        for what, right in {
            "share": [type(number) for number in manifest["share"]] == [int, int]
            and 1 <= manifest["share"][0] <= manifest["share"][1],
            "metadata": all(isinstance(text, str) for text in manifest["metadata"].values()),
            "shards": all(isinstance(e, dict) and e.keys() >= ENTRY for e in manifest["shards"]),
        }.items()
        if not right
    ]
    if wrong:
        raise CatalogueError(f"{path}: {', '.join(wrong)}: not as docs/catalogue.md says; {remedy}")
    return manifest
