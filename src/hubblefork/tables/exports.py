"""Classifications as the Zooniverse exports them: Panoptes' CSV, and Ouroboros' of Galaxy Zoo 3 and 4.

Panoptes (zooniverse/panoptes, lib/formatter/csv) writes one row a classification with JSON in cells:
`annotations` is a list of {"task", "task_label", "value"}, where a value is the text of an answer, its place,
a list of these (checkboxes), null, or a list of further tasks (combo); `subject_data` has the metadata that
were uploaded with a subject, by its id. Ouroboros writes one column a question (NAME-0 …) with a-0, a-1 …
for an answer and x-0;x-3 for checkboxes, beside which a-0 says no more than that the volunteer was done.

A task is a question if a file says so, else if its text is the question's, else if its key (T0, NAME-0) is
the question's `task`. An answer goes by its text, its name or the source's name for it; upper case,
punctuation, images and links in Markdown do not count. An answer that is a number goes by its place on the
site, from 0: a file lists the answers in that order; of a tree of one's own it is the tree's. `sites/` has
such files of the projects whose exports hold nothing but keys and places.
"""

from __future__ import annotations

import csv
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.io import UNREADABLE, read_toml
from hubblefork.tables.columns import LARGEST, unique
from hubblefork.tables.formats import text_opener
from hubblefork.tables.text import Opener
from hubblefork.zoo import DecisionTree, Question, tree_names

LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
UNSAID = -1
REMEDY = (
    'write T0 = "question" for a task, T0 = "" for one to leave out, or a table [T0] with question = "…" and '
    'answers = { "text" = "answer" }, or answers = ["answer", …] in the order of the site'
)
BLOCK = 2**22
LONGEST_HEADER = 2**16
SHOWN = 80
SUBJECT = "subject"
IDS = ("galaxy_id", "id_str", "iauname", "ids", "objid")
"""Metadata of a subject that name its galaxy, the best first."""
MARKS = "#!/% "
"""What Zooniverse's manifests put before a column's name: hidden from volunteers, or shown later."""
UNIT_SEPARATOR = b"\x1f"

Entry = tuple[str, str, Any]
"""A task, its text, and the value that was given."""


# Tasks


class Fault(ValueError):
    """A classification that cannot be read: a reason in a few words, and the value found."""

    def __init__(self, reason: str, value: str) -> None:
        self.reason, self.value = reason, value
        super().__init__(f"{reason}: {value}")


def words_of(text: str) -> str:
    """Return the words of a text in small letters, without markup; of an image alone its description."""
    text = html.unescape(text)
    bare = LINK.sub(" ", text)
    if not re.search(r"\w", bare):
        bare = LINK.sub(r" \1 ", text)
    bare = re.sub(r"['’`]", "", re.sub(r"<[^>]*>", " ", bare))
    return re.sub(r"[\W_]+", " ", bare).strip().casefold()


class Said(BaseModel):
    """What a file says of a task: its question; its answers by their texts, or in the order of the site."""

    model_config = ConfigDict(extra="forbid")
    question: str | None = None
    answers: dict[str, str] | list[str] = Field(default_factory=dict)


class Tasks:
    """The tasks of a project as questions of a tree, and their answers as columns of it.

    `path` is a TOML file by the keys of tasks: the name of a question, `""` for a task to leave out, or a
    table of a question and its answers, by their texts (`""` for one to leave out) or in the site's order.
    Raises CatalogueError for a file that cannot be read, UnknownAnswer for a name that the tree lacks.
    """

    def __init__(self, tree: DecisionTree, path: Path | None = None) -> None:
        self.tree = tree
        self._by_text = _once(
            (words_of(question.text), place) for place, question in enumerate(tree.questions)
        )
        self._by_key = _once(
            (question.task.casefold(), place) for place, question in enumerate(tree.questions)
        )
        self._answers = [_answers(question, tree) for question in tree.questions]
        self._questions: dict[str, int | None] = {}
        self._texts: dict[tuple[str, str], int | None] = {}
        self._orders: dict[str, list[int | None]] = {}
        site = Path(str(resources.files("hubblefork.tables").joinpath("sites", f"{tree.name}.toml")))
        for file in [*([site] if site.exists() else []), *([path] if path else [])]:
            for task, said in _read(file).items():
                self._say(task.casefold(), said)

    def _say(self, task: str, said: Said) -> None:
        names = [question.name for question in self.tree.questions]
        if said.question is not None:
            named = said.question and self.tree.question(said.question).name
            self._questions[task] = names.index(named) if named else None
        if isinstance(said.answers, list):
            self._orders[task] = [self.tree.column(name) if name else None for name in said.answers]
        else:
            columns = {text: self.tree.column(name) if name else None for text, name in said.answers.items()}
            self._texts |= {(task, words_of(text)): column for text, column in columns.items()}

    def question(self, task: str, text: str) -> int | None:
        """Return the number of the question that a task is, by its key and its text; None for none."""
        key = task.casefold()
        if key in self._questions:
            return self._questions[key]
        return self._by_text.get(words_of(text), self._by_key.get(key))

    def column(self, question: int, task: str, answer: str | int) -> int | None:
        """Return the column of an answer, a text or a place from 0; None for one to leave out.

        Raises Fault for an answer that the question does not have, CatalogueError where no place is known.
        """
        name = self.tree.questions[question].name
        if isinstance(answer, int):
            order = self._order(question, task)
            if 0 <= answer < len(order):
                return order[answer]
            raise Fault(f"no answer of {name}", f"{task} is {answer}, of {len(order)} answers from 0")
        words = words_of(answer)
        said = self._texts.get((task.casefold(), words), UNSAID)
        if said != UNSAID:
            return said
        if words not in self._answers[question]:
            near = did_you_mean(words, self._answers[question])
            raise Fault(f"no answer of {name}", f'{task} is "{answer[:80]}"{near}')
        return self._answers[question][words]

    def _order(self, question: int, task: str) -> list[int | None]:
        order = self._orders.get(task.casefold())
        if order is None and self.tree.name in tree_names():
            names = ", ".join(f'"{answer.name}"' for answer in self.tree.questions[question].answers)
            raise CatalogueError(
                f"{task} has places for answers, not texts, and the order of the site is not known; "
                f"say it in a file for --tasks, in that order: {task} = {{ answers = [{names}] }}"
            )
        places = range(len(self.tree.columns))[self.tree.slices[question]]
        return list(places) if order is None else order


def _read(path: Path) -> dict[str, Said]:
    entries = {
        task: {"question": said} if isinstance(said, str) else said
        for task, said in read_toml(path, CatalogueError, REMEDY).items()
    }
    try:
        return TypeAdapter(dict[str, Said]).validate_python(entries)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CatalogueError(
            f"{path}: {place} = {str(first['input'])[:60]!r}: {first['msg']}; {REMEDY}"
        ) from error


def _answers(question: Question, tree: DecisionTree) -> dict[str, int]:
    """Return the columns of a question's answers by what these are called; a text goes before a name."""
    columns = [tree.columns.index(answer.name) for answer in question.answers]
    called: dict[str, int] = {}
    for names in (
        [answer.text for answer in question.answers],
        [answer.name for answer in question.answers],
        [answer.column.rpartition("_")[2] for answer in question.answers],
    ):
        called = {**_once(zip(map(words_of, names), columns, strict=True)), **called}
    return called


def _once(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return as a dictionary the pairs whose key is not empty and stands once."""
    pairs = list(pairs)
    times = Counter(key for key, _ in pairs)
    return {key: value for key, value in pairs if key and times[key] == 1}


# Exports


class Rows(NamedTuple):
    """Rows of an export: their cells as bytes, their lines (from 1), and refused lines with their text."""

    cells: pa.RecordBatch
    lines: NDArray[np.int64]
    ragged: list[tuple[int, str]]


class Classifications(NamedTuple):
    """What rows say, each (row,) of bytes: the subject, its metadata, the volunteer, the answers."""

    subjects: pa.Array
    metadata: pa.Array
    volunteers: pa.Array
    answers: pa.Array


@dataclass
class Panoptes:
    """Panoptes' layout. `id_name` is the metadata that name a galaxy; empty until a subject is seen."""

    id_name: str

    def classifications(self, cells: pa.RecordBatch) -> Classifications:
        """Return what rows say."""
        named = [cells.column(name) for name in ("subject_ids", "subject_data", "annotations")]
        return Classifications(named[0], named[1], volunteers_of(cells), named[2])

    def galaxy(self, subject: bytes, metadata: bytes) -> str:
        """Return the id of a subject's galaxy. Raises Fault."""
        entries = _json(metadata, "subject_data")
        ids = subject.decode("utf-8", "replace").strip().split(";")
        if len(ids) > 1:
            raise Fault("several subjects in one classification", ";".join(ids))
        found = entries.get(ids[0]) if isinstance(entries, dict) else None
        if not ids[0] or not isinstance(found, dict):
            raise Fault("subject without subject_data", ids[0])
        bare = {name.lstrip(MARKS).casefold(): value for name, value in found.items()}
        self.id_name = self.id_name or next((name for name in IDS if bare.get(name)), SUBJECT)
        if self.id_name == SUBJECT:
            return ids[0]
        value = bare.get(self.id_name.lstrip(MARKS).casefold())
        if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST:
            value = int(value)
        if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
            near = did_you_mean(self.id_name, [name for name in bare if name != self.id_name])
            raise Fault(f"subject without {self.id_name}", f"subject {ids[0]}: {value!s}{near}")
        return str(value).strip()

    def entries(self, answers: bytes) -> Iterator[Entry]:
        """Yield tasks and values of a classification. Raises Fault."""
        return _entries(_json(answers, "annotations"))


def _entries(annotations: Any) -> Iterator[Entry]:
    for annotation in annotations if isinstance(annotations, list) else [annotations]:
        if not isinstance(annotation, dict) or "task" not in annotation:
            raise Fault("annotation without a task", str(annotation))
        value = annotation.get("value")
        if isinstance(value, list) and value and all(isinstance(v, dict) and "task" in v for v in value):
            yield from _entries(value)
        else:
            yield str(annotation["task"]), str(annotation.get("task_label") or ""), value


def _json(cell: bytes, name: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        text = cell[:SHOWN].decode("utf-8", "replace")
        raise Fault(f"broken JSON in {name}", f"{error}: {text}") from error


@dataclass
class Ouroboros:
    """Ouroboros' layout: the columns of its questions, and the one that names a galaxy."""

    questions: Sequence[str]
    id_name: str

    def classifications(self, cells: pa.RecordBatch) -> Classifications:
        """Return what rows say."""
        answers = pc.binary_join_element_wise(*map(cells.column, self.questions), UNIT_SEPARATOR)
        ids = cells.column(self.id_name)
        return Classifications(ids, ids, volunteers_of(cells), answers)

    def galaxy(self, subject: bytes, metadata: bytes) -> str:
        """Return the id of a subject's galaxy. Raises Fault."""
        galaxy_id = subject.decode("utf-8", "replace").strip()
        if not galaxy_id:
            raise Fault(f"no {self.id_name}", "")
        return galaxy_id

    def entries(self, answers: bytes) -> Iterator[Entry]:
        """Yield questions and the places of answers. Raises Fault."""
        for name, cell in zip(self.questions, answers.split(UNIT_SEPARATOR), strict=True):
            parts = [part.strip() for part in cell.decode("utf-8", "replace").split(";") if part.strip()]
            places = [re.fullmatch(r"([ax])-(\d{1,4})", part) for part in parts]
            if not all(places):
                raise Fault("no answer of Ouroboros", f'{name} is "{";".join(parts)}"; allowed are a-0, x-0')
            ticked = [int(place[2]) for place in places if place and place[1] == "x"]
            chosen = [int(place[2]) for place in places if place and place[1] == "a"]
            if parts:
                yield name, "", ticked or (chosen[0] if len(chosen) == 1 else chosen)


Layout = Panoptes | Ouroboros


def volunteers_of(cells: pa.RecordBatch) -> pa.Array:
    """Return who classified, (row,) of bytes: the user's id, else the name, else the hash of the IP address.

    Panoptes names who was not logged in by that hash too. Empty where a row says none of them.
    """
    who = pa.array([b""] * len(cells), pa.binary())
    for column in ("user_ip", "user", "user_name", "user_id"):
        if column in cells.schema.names:
            tagged = pc.binary_join_element_wise(pa.scalar(column, pa.binary()), cells.column(column), b" ")
            who = pc.if_else(pc.greater(pc.binary_length(cells.column(column)), 0), tagged, who)
    return who


@dataclass(frozen=True)
class Export:
    """A file of classifications: its columns and its layout."""

    path: Path
    opener: Opener
    names: Sequence[str]
    layout: Layout

    def column(self, name: str) -> str:
        """Return the name of a column that must be there. Raises CatalogueError."""
        if name not in self.names:
            raise CatalogueError(
                f'{self.path}: there is no column "{name}"{did_you_mean(name, self.names)} in this export of '
                f"{type(self.layout).__name__}"
            )
        return name

    def blocks(self) -> Iterator[Rows]:
        """Yield the rows block by block. Raises CatalogueError where the file is damaged."""
        skipped: dict[int, str] = {}
        number, line = 2, 2
        try:
            with self.opener() as handle:
                for cells in _csv(handle, self.names, skipped):
                    rows, number, line = _placed(cells, skipped, number, line)
                    yield rows
        except UNREADABLE as error:
            if number > 2 or not re.search("Empty CSV|too short", str(error)):
                why = "a quote is not closed" if "straddl" in str(error) else str(error)
                raise CatalogueError(
                    f"{self.path}: cannot be read below line {line - 1}: {why}; fetch it again"
                ) from error


def _csv(handle: Any, names: Sequence[str], skipped: dict[int, str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows below the header, at last none; note those of another length by their number from 1."""

    def skip(row: Any) -> str:
        skipped[row.number] = row.text
        return "skip"

    convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()))
    parse = pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=skip)
    # A thread of Arrow may drop the handler after Python has ended, which aborts the process.
    read = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names, skip_rows=1)
    yield from pa.csv.open_csv(handle, read, parse, convert)
    yield pa.record_batch([pa.array([], pa.binary())] * len(names), names)


def _placed(cells: pa.RecordBatch, skipped: dict[int, str], number: int, line: int) -> tuple[Rows, int, int]:
    """Return rows with their lines, those that were skipped among them, and number and line of the next."""
    possible = np.arange(number, number + len(cells) + len(skipped))
    good = np.setdiff1d(possible, np.array([*skipped], np.int64))[: len(cells)] - number
    size = int(good[-1]) + 1 if len(cells) else len(possible)
    wrong = [at for at in sorted(skipped) if at < number + size]
    newlines, filled = np.zeros(size, np.int64), np.zeros(len(cells), dtype=bool)
    for column in cells.columns:
        if b"\n" in column.buffers()[2].to_pybytes():  # counting in each cell takes as long as reading
            newlines[good] += pc.count_substring(column, "\n").to_numpy(zero_copy_only=False)
        filled |= pc.binary_length(column).to_numpy(zero_copy_only=False) > 0
    newlines[[at - number for at in wrong]] = [skipped[at].count("\n") for at in wrong]
    lines = line + np.arange(size) + np.cumsum(newlines) - newlines
    ragged = [(int(lines[at - number]), skipped.pop(at)) for at in wrong]
    cells = cells if filled.all() else cells.filter(pa.array(filled))
    return Rows(cells, lines[good][filled], ragged), number + size, line + size + int(newlines.sum())


def open_export(path: Path, id_name: str = "") -> Export:
    """Open an export and find out its layout; it may be compressed.

    `id_name` is the metadata (Panoptes) or the column (Ouroboros) that names a galaxy; empty for the first of
    `IDS` that is there, else the subject. Raises CatalogueError.
    """
    opener = text_opener(path)
    with opener() as handle:
        header = handle.readline(LONGEST_HEADER)
    try:
        names = unique(next(csv.reader([header.decode("utf-8-sig").rstrip("\r\n")]), []))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CatalogueError(f"{path}: its first line does not name the columns of a CSV: {error}") from error
    questions = [name for name in names if re.fullmatch(r"[a-z][a-z0-9_]*-\d+", name)]
    if {"annotations", "subject_data", "subject_ids"} <= set(names):
        return Export(path, opener, names, Panoptes(id_name))
    if "subject_id" in names and questions:
        columns = {"": next((name for name in IDS if name in names), "subject_id"), SUBJECT: "subject_id"}
        export = Export(path, opener, names, Ouroboros(questions, columns.get(id_name, id_name)))
        export.column(export.layout.id_name)
        return export
    raise CatalogueError(
        f"{path}: not an export of classifications: Panoptes' has the columns annotations, subject_data and "
        f"subject_ids, Ouroboros' has subject_id and questions as NAME-0; it has {', '.join(names)[:200]}"
    )
