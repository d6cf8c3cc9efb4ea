"""What people said of galaxies: stars, tags, answers to the questions of a tree; a journal in SQLite.

Nothing is deleted: a later mark of a person replaces an earlier one, undoing a mark is an entry too. A mark
that `Marks.say` returned is on the disk, also when the process is killed the moment after.
"""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubblefork.errors import BusyError, CatalogueError, UnknownAnswer
from hubblefork.io import disk_error
from hubblefork.tables.catalogue import ID, id_column, with_fractions, with_metadata, with_votes
from hubblefork.tables.shards import QUESTIONS, TREE
from hubblefork.zoo import DecisionTree, VoteCounts, reach, tree_text

STAR, TAG, ANSWER = KINDS = ("star", "tag", "answer")
STARRED = "starred"
LONGEST = {"person": 60, "tag": 60, "galaxy_id": 200}
"""How many characters a text may have."""
PATIENCE = 20.0
"""Seconds to wait for another process that writes."""
SCHEMA = """
create table if not exists said (
    number integer primary key autoincrement,
    time text not null,
    person text not null,
    galaxy_id text not null,
    kind text not null check (kind in ('star', 'tag', 'answer')),
    place text not null,
    value text not null,
    holds integer not null
) strict;
create table if not exists undone (number integer primary key references said, time text not null) strict;
create index if not exists by_galaxy on said (galaxy_id, person, kind, place);
create index if not exists by_place on said (kind, place, galaxy_id, person);
create index if not exists by_person on said (person, number);
"""
CURRENT = """
select * from (
    select max(number) as number, time, person, galaxy_id, kind, value, holds from said
    where number not in (select number from undone){and_only}
    group by person, galaxy_id, kind, place
)"""
"""Of the marks of a person on one place (the question, or the tag) the last one that was not undone."""


@dataclass(frozen=True)
class Mark:
    """What a person said of a galaxy: that a star, a tag or an answer holds, or does not.

    `time` is that of the saying, ISO 8601 in UTC.
    """

    number: int
    time: str
    person: str
    galaxy_id: str
    kind: str
    value: str
    holds: bool


@dataclass
class Marks:
    """The marks of a catalogue of `tree`, in the file `path`; for several threads and processes at once.

    The file is made with the first mark. Raises CatalogueError for one that holds no marks, DiskError where
    it cannot be written.
    """

    path: Path
    tree: DecisionTree
    _connection: sqlite3.Connection = field(init=False, repr=False)
    _in_file: bool = field(init=False, repr=False, default=False)
    _lock: Lock = field(init=False, repr=False, default_factory=Lock)

    def __post_init__(self) -> None:
        self._open(":memory:")
        self._all("select 1")

    def _open(self, place: Path | str) -> None:
        self._connection = sqlite3.connect(
            place, timeout=PATIENCE, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        self._connection.executescript(f"begin immediate; {SCHEMA} commit;")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def say(self, person: str, galaxy_id: str, kind: str, value: str = "", *, holds: bool = True) -> Mark:
        """Note what a person says of a galaxy, on the disk; return it.

        A "star" has no value, the value of a "tag" is its text, that of an "answer" the name of an answer of
        the tree. An answer replaces the person's others to its question, but where several may be given.
        With `holds` false a star or a tag is taken away, an answer to such a question is a no, another
        answer is taken back. Raises CatalogueError for texts that are empty, too long or not printable,
        UnknownAnswer, BusyError, DiskError.
        """
        if kind not in KINDS:
            raise CatalogueError(f'"{kind[:60]}" is no kind of mark: {", ".join(KINDS)}')
        person, galaxy_id = _text("person", person), _text("galaxy_id", galaxy_id)
        value = self._value(kind, value)
        row = (_now(), person, galaxy_id, kind, self._place(kind, value), value, holds)
        with self._writing() as connection:
            number = connection.execute(
                "insert into said (time, person, galaxy_id, kind, place, value, holds) "
                "values (?, ?, ?, ?, ?, ?, ?)",
                row,
            ).lastrowid
        return Mark(int(number or 0), row[0], person, galaxy_id, kind, value, holds)

    def undo(self, person: str) -> Mark | None:
        """Undo the last mark of a person that was not undone, and return it; None without one."""
        with self._writing() as connection:
            row = connection.execute(
                "select number, time, person, galaxy_id, kind, value, holds from said "
                "where person = ? and number not in (select number from undone) order by number desc limit 1",
                [_text("person", person)],
            ).fetchone()
            if row is not None:
                connection.execute("insert into undone values (?, ?)", [row["number"], _now()])
        return None if row is None else _mark(row)

    def of(self, galaxy_ids: Collection[str]) -> list[Mark]:
        """Return the marks of some galaxies, first said first; those that do not hold are noes."""
        only = " and galaxy_id in (select value from json_each(?))"
        rows = self._all(f"{CURRENT.format(and_only=only)} order by number", json.dumps(list(galaxy_ids)))
        return [_mark(row) for row in rows if row["holds"] or self._is_no(row)]

    def tags(self) -> dict[str, int]:
        """Return all tags with the number of their galaxies, in the order of the alphabet."""
        return self._counts("value", f"kind = '{TAG}' and holds")

    def people(self) -> dict[str, int]:
        """Return the names of all who marked, with the number of galaxies they marked."""
        return self._counts("person", "true")

    def galaxies(
        self,
        *,
        tag: str | None = None,
        starred: bool = False,
        answer: str | None = None,
        person: str | None = None,
    ) -> list[str]:
        """Return the ids of the galaxies that have all of these marks, first marked first.

        With `person` only the marks of that person count; with nothing else, any mark.
        """
        asked = ((TAG, tag), (STAR, STARRED if starred else None), (ANSWER, answer))
        wanted = [(kind, value) for kind, value in asked if value is not None]
        own, who = (" and person = ?", [person]) if person is not None else ("", [])
        if not wanted:
            return self._ids(f"{CURRENT.format(and_only=own)} where holds", *who)
        sql = f"{CURRENT.format(and_only=f' and kind = ? and place = ?{own}')} where holds and value = ?"
        lists = [self._ids(sql, kind, self._place(kind, value), *who, value) for kind, value in wanted]
        common = set.intersection(*map(set, lists))
        return [galaxy_id for galaxy_id in lists[0] if galaxy_id in common]

    def _ids(self, sql: str, *values: Any) -> list[str]:
        rows = self._all(f"select galaxy_id from ({sql}) group by galaxy_id order by min(number)", *values)
        return [row["galaxy_id"] for row in rows]

    def votes(self) -> pa.Table:
        """Return the answers as a table of labels: joint fractions and counts, one row a galaxy.

        Not counted are answers to questions to which the person's own other answers do not lead. `ingest`
        and `finetune` read it.
        """
        only = f" and kind = '{ANSWER}'"
        rows = self._all(f"{CURRENT.format(and_only=only)} order by number")
        rows = [row for row in rows if row["value"] in self.tree.columns]
        galaxies = {galaxy_id: n for n, galaxy_id in enumerate(dict.fromkeys(r["galaxy_id"] for r in rows))}
        classifications: dict[tuple[str, str], list[sqlite3.Row]] = {}
        for row in rows:
            classifications.setdefault((row["galaxy_id"], row["person"]), []).append(row)
        single = VoteCounts(*self._single(list(classifications.values())))
        reached = reach(self.tree, single.joint(self.tree)) != 0
        galaxy = np.array([galaxies[galaxy_id] for galaxy_id, _ in classifications], np.int64)
        given, asked = (
            np.zeros((len(galaxies), width), np.int64)
            for width in map(len, (self.tree.columns, self.tree.questions))
        )
        np.add.at(given, galaxy, single.given * reached[:, list(self.tree.question_of)])
        np.add.at(asked, galaxy, single.asked * reached)
        kept = asked.any(axis=1)
        votes = VoteCounts(given[kept], asked[kept])
        ids = id_column(pa.array(galaxies, pa.string()).filter(pa.array(kept)))
        table = with_fractions(pa.table({ID: ids}), votes.joint(self.tree), self.tree)
        notes = {TREE: self.tree.name, QUESTIONS: tree_text(self.tree)}
        return with_metadata(with_votes(table, votes, self.tree), notes)

    def _single(self, classifications: Sequence[Sequence[sqlite3.Row]]) -> tuple[NDArray, NDArray]:
        """Return the votes of single people on single galaxies: (classification, answer), (…, question)."""
        tree = self.tree
        given = np.zeros((len(classifications), len(tree.columns)), np.int64)
        asked = np.zeros((len(classifications), len(tree.questions)), np.int64)
        for number, said in enumerate(classifications):
            for row in said:
                if row["holds"] or self._is_no(row):
                    column = tree.column(row["value"])
                    given[number, column] = row["holds"]
                    asked[number, tree.question_of[column]] = 1
        return given, asked

    def _place(self, kind: str, value: str) -> str:
        """Return what a later mark with the same replaces. Raises UnknownAnswer."""
        if kind != ANSWER:
            return value
        question = self.tree.questions[self.tree.question_of[self.tree.column(value)]]
        return question.name if question.exclusive else value

    def _is_no(self, row: sqlite3.Row) -> bool:
        """Whether a mark that does not hold says no, and not nothing."""
        if row["kind"] != ANSWER or row["value"] not in self.tree.columns:
            return False
        return not self.tree.questions[self.tree.question_of[self.tree.column(row["value"])]].exclusive

    def _value(self, kind: str, value: str) -> str:
        if kind == STAR:
            return STARRED
        if kind == TAG:
            return _text("tag", value)
        if self.tree.number:
            raise UnknownAnswer(f"{self.tree.columns[0]} is a number; marks are answers to choose from")
        return self.tree.columns[self.tree.column(value)]

    def _counts(self, name: str, condition: str) -> dict[str, int]:
        sql = (
            f"select {name} as name, count(distinct galaxy_id) as galaxies "
            f"from ({CURRENT.format(and_only='')}) where {condition} group by {name} order by {name}"
        )
        return {row["name"]: row["galaxies"] for row in self._all(sql)}

    def _all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._naming() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection in a transaction, which is on the disk when the block has ended."""
        with self._naming(make=True) as connection:
            connection.execute("begin immediate")
            try:
                yield connection
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise

    @contextmanager
    def _naming(self, make: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold the connection alone, to the file once it is there or to be made; name what fails."""
        with self._lock:
            try:
                if not self._in_file and (make or self.path.exists()):
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    self._open(self.path)
                    self._in_file = True
                yield self._connection
            except OSError as error:
                raise disk_error(self.path, error) from error
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                    raise BusyError(f"{self.path}: another process is writing marks; try again") from error
                raise disk_error(self.path, OSError(str(error))) from error
            except sqlite3.DatabaseError as error:
                raise CatalogueError(
                    f"{self.path} holds no marks of a gallery: {error}; move it away, and a new one is begun"
                ) from error


def _mark(row: sqlite3.Row) -> Mark:
    return Mark(**{**dict(row), "holds": bool(row["holds"])})


def _text(what: str, value: str) -> str:
    """Return a text without spaces around it, composed characters as one. Raises CatalogueError."""
    text = unicodedata.normalize("NFC", value).strip()
    if not 0 < len(text) <= LONGEST[what] or not text.isprintable():
        raise CatalogueError(
            f"{what} is {text[:60]!r}; allowed are 1 to {LONGEST[what]} printable characters"
        )
    return text


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
