"""From an export of classifications to counts of votes, one row a galaxy.

A volunteer counts once for a galaxy: with the earliest classification (`created_at`; of several in one second
the first of the file) that can be read and answers anything. Volunteers are told apart by their id, else by
their name, and who was not logged in by the hash of the IP address. A row that says none of these is a
volunteer of its own. The file is read in blocks: in memory are the counts of each galaxy and twenty bytes a
classification.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from hubblefork.errors import CatalogueError
from hubblefork.io import Progress, replacing, silent
from hubblefork.tables.catalogue import (
    ID,
    check_format,
    id_column,
    with_fractions,
    with_metadata,
    with_votes,
    write_catalogue,
)
from hubblefork.tables.exports import Classifications, Export, Fault, Rows, Tasks, open_export
from hubblefork.tables.layouts import published_counts
from hubblefork.tables.names import printable
from hubblefork.tables.rejects import REJECT_COLUMNS, Reject, rejects_file, rejects_table
from hubblefork.zoo import DecisionTree, Question, VoteCounts, load_tree
from hubblefork.zoo.tree import DEFAULT

VOLUNTEERS = "volunteers"
VERSION, WORKFLOW, GOLD, CREATED = "workflow_version", "workflow_id", "gold_standard", "created_at"
EXAMPLE, LATEST = "2017-05-12 08:34:21 UTC", np.iinfo(np.int64).max
DUPLICATE, GOLD_STANDARD = "a second classification of a galaxy by one volunteer", "gold standard"
OTHER_VERSION, OTHER_WORKFLOW, EMPTY = "of another workflow version", "of another workflow", "no answer"
TRUE = ("true", "t", "1")
REMEMBERED = TOGETHER = 2**16
LONGEST_VALUE = 200


@dataclass(frozen=True)
class VoteSummary:
    """What an export came to: classifications read and counted, those left out by reason, rejects, notes."""

    galaxies: int
    classifications: int
    counted: int
    left_out: dict[str, int]
    rejects: dict[str, int]
    notes: tuple[str, ...]


def count_votes(
    export: str | PathLike[str],
    out: str | PathLike[str],
    *,
    tree: str | DecisionTree = DEFAULT,
    tasks: str | PathLike[str] | None = None,
    id_name: str = "",
    workflow: str = "",
    versions: Sequence[str] = (),
    gold_standard: bool = False,
    progress: Progress = silent,
) -> VoteSummary:
    """Write the votes in a Zooniverse export of classifications, one row a galaxy, and say what it came to.

    `export` is Panoptes' CSV, or Ouroboros' of Galaxy Zoo 3 and 4, compressed or not. `out` gets `galaxy_id`,
    the number of `volunteers` and counts in the layout of galaxy-datasets, `<out>.rejects.csv` the rows that
    cannot be read: each whole or not at all. `tree` is a name, the path of a .toml file or a tree. `tasks` is
    a TOML file that says which task is which question, `id_name` what in a subject's metadata names its
    galaxy (`tables.exports`). Counted are the rows of a `workflow` (its id or name; empty for all), of
    `versions` ("66" is 66.1 and 66.425, "66.425" itself; empty for all) and, if so said, of experts in
    gold-standard mode. Raises CatalogueError for a file that is no export or of which no row can be used,
    TreeError, DiskError.

    >>> hf.count_votes("classifications.csv", "votes.parquet", tree="my.toml").galaxies
    3
    """
    export, out = Path(export), Path(out)
    tree = load_tree(tree) if isinstance(tree, str) else tree
    check_format(out)
    opened = open_export(export, id_name)
    for name, asked in ((VERSION, versions), (WORKFLOW, workflow)):
        if asked:
            opened.column(name)
    tasks_of_tree = Tasks(tree, Path(tasks) if tasks else None)
    counting = _Counting(opened, tasks_of_tree, workflow, versions, gold_standard)
    with replacing(rejects_file(out)) as path, progress("classifications", None) as advance:
        with pa.csv.CSVWriter(path, REJECT_COLUMNS) as writer:
            for rows in opened.blocks():
                writer.write_table(rejects_table(counting.take(rows)))
                advance(len(rows.lines) + len(rows.ragged))
        counting.finish()
        write_catalogue(with_metadata(counting.table(), {"tree": tree.name, "export": export.name}), out)
    return counting.summary()


def _which(column: pa.Array, accepts: Callable[[str], bool]) -> NDArray[np.bool_]:
    coded = column.dictionary_encode()
    texts = [text.decode("utf-8", "replace").strip() for text in coded.dictionary.to_pylist()]
    return np.array([*map(accepts, texts), False], dtype=bool)[coded.indices.to_numpy()]


class _Counting:
    """Classifications so far: each with its galaxy and volunteer, when it was made, and which votes it has.

    `patterns` numbers the votes that were given: (answers + questions + 1) truth values as bytes, 0 for none.
    """

    def __init__(
        self, export: Export, tasks: Tasks, workflow: str, versions: Sequence[str], gold_standard: bool
    ) -> None:
        self.export, self.tasks, self.tree = export, tasks, tasks.tree
        self.workflow, self.only_versions, self.gold_standard = workflow, versions, gold_standard
        self.width = len(self.tree.columns) + len(self.tree.questions) + 1
        self.made: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]] = []
        self.patterns = {bytes(self.width): 0}
        self.counts = np.zeros((0, self.width), np.int32)
        self.galaxies: dict[str, int] = {}
        self.subjects: dict[bytes, int] = {}
        self.volunteers: dict[bytes, int] = {}
        self.people, self.rows, self.counted = 0, 0, 0
        self.left_out, self.rejects, self.versions = Counter[str](), Counter[str](), Counter[str]()
        self.first_reject: Reject | None = None
        self.other_tasks: dict[str, str] = {}
        self.columns_in = lru_cache(REMEMBERED)(self._columns_in)

    def take(self, rows: Rows) -> list[Reject]:
        """Count the votes of some rows; return those that cannot be read."""
        self.rows += len(rows.lines) + len(rows.ragged)
        kept = np.ones(len(rows.lines), dtype=bool)
        for reason, which in self._unwanted(rows.cells):
            self.left_out[reason] += int((kept & which).sum())
            kept &= ~which
        cells, lines = rows.cells.filter(pa.array(kept)), rows.lines[kept]
        self._note_versions(cells)
        said, faults = self.export.layout.classifications(cells), dict[int, Fault]()
        votes, galaxies = self._votes(said.answers, faults), self._galaxies(said, faults)
        times = self._times(cells, faults)
        good = np.ones(len(lines), dtype=bool)
        good[list(faults)] = False
        answered = good & (votes > 0)
        self.left_out[EMPTY] += int(good.sum() - answered.sum())
        pairs = galaxies << 32 | self._volunteers(said.volunteers)
        self.made.append((pairs[answered], times[answered], votes[answered]))
        ragged = [self._reject(line, "", Fault("wrong number of cells", text)) for line, text in rows.ragged]
        names = [*self.galaxies, ""]
        return ragged + [
            self._reject(lines[row], names[galaxies[row]], faults[row]) for row in sorted(faults)
        ]

    def _unwanted(self, cells: pa.RecordBatch) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield the reasons for which rows are left out, and which are, (row,)."""
        if self.workflow:
            named = [name for name in (WORKFLOW, "workflow_name") if name in self.export.names]
            among = [_which(cells.column(name), lambda text: text == self.workflow) for name in named]
            yield OTHER_WORKFLOW, ~np.any(among, axis=0)
        if self.only_versions:
            beginnings = tuple(f"{version}." for version in self.only_versions)
            yield (
                OTHER_VERSION,
                ~_which(cells.column(VERSION), lambda text: f"{text}.".startswith(beginnings)),
            )
        if not self.gold_standard and GOLD in self.export.names:
            yield GOLD_STANDARD, _which(cells.column(GOLD), lambda text: text.casefold() in TRUE)

    def _votes(self, answers: pa.Array, faults: dict[int, Fault]) -> NDArray[np.int32]:
        """Return the number of each row's pattern of votes, (row,)."""
        coded = answers.dictionary_encode()
        places, numbers = coded.indices.to_numpy(), np.zeros(len(coded.dictionary), np.int32)
        for number, cell in enumerate(coded.dictionary.to_pylist()):
            try:
                votes = np.zeros(self.width, dtype=bool)
                votes[self.columns_in(cell)] = True
                votes[-1] = votes.any()
                numbers[number] = self.patterns.setdefault(votes.tobytes(), len(self.patterns))
            except Fault as fault:
                faults |= dict.fromkeys(np.flatnonzero(places == number).tolist(), fault)
        return numbers[places]

    def _times(self, cells: pa.RecordBatch, faults: dict[int, Fault]) -> NDArray[np.int64]:
        """Return when each row was made, (row,) in seconds; the last of times where it does not say it."""
        if CREATED not in self.export.names:
            return np.full(len(cells), LATEST)
        said = cells.column(CREATED)
        seconds = pc.replace_substring(pc.binary_slice(said, 0, 19), b"T", b" ").cast(pa.string(), safe=False)
        times = pc.strptime(seconds, "%Y-%m-%d %H:%M:%S", "s", error_is_null=True).cast(pa.int64())
        unread = times.is_null().to_numpy(False) & (pc.binary_length(said).to_numpy(False) > 0)
        for row in np.flatnonzero(unread).tolist():
            text = said[row].as_py().decode("utf-8", "replace")
            faults.setdefault(row, Fault("no time", f'{CREATED} is "{text}"; allowed is {EXAMPLE}'))
        return times.fill_null(LATEST).to_numpy(False)

    def _columns_in(self, cell: bytes) -> list[int]:
        """Return the columns of the votes in a cell of answers, and of the questions. Raises Fault."""
        chosen: dict[int, set[int]] = {}
        for task, text, value in self.export.layout.entries(cell):
            number = self.tasks.question(task, text)
            if value in (None, ""):
                continue
            if number is None:
                self.other_tasks.setdefault(task, text)
                continue
            question = self.tree.questions[number]
            columns = self._answered(question, number, task, value)
            if columns or not question.exclusive:
                chosen.setdefault(number, set()).update(columns)
            if question.exclusive and len(columns | chosen.get(number, set())) > 1:
                raise Fault(f"several answers to {question.name}", f"{task} is {value!s}")
        totals = [len(self.tree.columns) + number for number in chosen]
        return [*(column for columns in chosen.values() for column in columns), *totals]

    def _answered(self, question: Question, number: int, task: str, value: Any) -> set[int]:
        """Return the columns of a value; a number alone says of checkboxes that none is ticked."""
        values = value if isinstance(value, list) else [value]
        if question.multiple and isinstance(value, int):
            values = []
        if not all(isinstance(each, str | int) and not isinstance(each, bool) for each in values):
            raise Fault(f"no answer of {question.name}", f"{task} is {value!s}")
        columns = {self.tasks.column(number, task, each) for each in values}
        return {column for column in columns if column is not None}

    def _galaxies(self, said: Classifications, faults: dict[int, Fault]) -> NDArray[np.int64]:
        """Return the number of each row's galaxy, (row,); -1, and a fault, where it cannot be known."""
        coded = said.subjects.dictionary_encode()
        places, subjects = coded.indices.to_numpy(), coded.dictionary.to_pylist()
        numbers = np.array([*(self.subjects.get(subject, -1) for subject in subjects), -1])[places]
        for row in np.flatnonzero(numbers < 0).tolist():
            subject = subjects[places[row]]
            try:
                if subject not in self.subjects:
                    name = self.export.layout.galaxy(subject, said.metadata[row].as_py())
                    self.subjects[subject] = self.galaxies.setdefault(name, len(self.galaxies))
                numbers[row] = self.subjects[subject]
            except Fault as fault:
                faults[row] = fault
        return numbers

    def _volunteers(self, volunteers: pa.Array) -> NDArray[np.int64]:
        """Return the number of each row's volunteer, (row,); one of its own where nothing is said."""
        coded = volunteers.dictionary_encode()
        numbers = []
        for name in coded.dictionary.to_pylist():
            number = self.volunteers.setdefault(name, self.people) if name else -1
            self.people += number == self.people
            numbers.append(number)
        rows = np.array([*numbers, -1])[coded.indices.to_numpy()]
        unnamed = rows < 0
        rows[unnamed] = np.arange(self.people, self.people + unnamed.sum())
        self.people += int(unnamed.sum())
        return rows

    def finish(self) -> None:
        """Count of each volunteer's classifications of a galaxy the earliest: `counts` (galaxy, width).

        Raises CatalogueError where nothing is counted.
        """
        pairs, times, votes = (np.concatenate(parts) for parts in zip(*self.made, strict=True))
        self.made.clear()
        self.counts = np.zeros((len(self.galaxies), self.width), np.int32)
        order = np.lexsort((times, pairs))
        first = order[np.unique(pairs[order], return_index=True)[1]]
        patterns = np.frombuffer(b"".join(self.patterns), bool).reshape(-1, self.width)
        for start in range(0, len(first), TOGETHER):
            rows = first[start : start + TOGETHER]
            row, column = np.nonzero(patterns[votes[rows]])
            np.add.at(self.counts.reshape(-1), (pairs[rows] >> 32)[row] * self.width + column, 1)
        self.counted = len(first)
        self.left_out[DUPLICATE] += len(pairs) - len(first)
        if not self.counted:
            raise self._nothing_counted()

    def _note_versions(self, cells: pa.RecordBatch) -> None:
        if VERSION in self.export.names and WORKFLOW in self.export.names:
            major = pc.replace_substring_regex(cells.column(VERSION), r"\..*", "")
            pairs = pc.value_counts(pc.binary_join_element_wise(cells.column(WORKFLOW), major, b" version "))
            for pair in pairs.to_pylist():
                self.versions[pair["values"].decode("utf-8", "replace")] += pair["counts"]

    def _reject(self, line: int, galaxy_id: str, fault: Fault) -> Reject:
        value = f"line {line}: {printable(fault.value[:LONGEST_VALUE])}"
        reject = Reject(str(self.export.path), "", galaxy_id, fault.reason, value)
        self.first_reject = self.first_reject or reject
        self.rejects[fault.reason] += 1
        return reject

    def _nothing_counted(self) -> CatalogueError:
        reasons = (self.rejects + self.left_out).most_common()
        said = [", ".join(f"{count} × {reason}" for reason, count in reasons) or "it has no rows"]
        if self.first_reject:
            said.append(f"the first: {self.first_reject.value}")
        if self.other_tasks:
            said.append(f"no question of {self.tree.name} are {self._other_tasks()}; --tasks says which are")
        return CatalogueError(f"{self.export.path}: no classification is counted: {'; '.join(said)}")

    def table(self) -> pa.Table:
        """Return galaxies, volunteers and counts: as they are published, else ours, with joint fractions."""
        counts = self.counts
        rows = np.flatnonzero(counts[:, -1])
        ids = id_column(pa.array(self.galaxies, pa.string()).take(rows))
        table = pa.table({ID: ids, VOLUNTEERS: counts[rows, -1]})
        given, asked = np.split(counts[rows, :-1], [len(self.tree.columns)], axis=1)
        for name, column in published_counts(self.tree, given, asked).items():
            table = table.append_column(name, pa.array(column))
        if len(table.columns) > 2:
            return table
        votes = VoteCounts(given.astype(np.int64), asked.astype(np.int64))
        return with_votes(with_fractions(table, votes.joint(self.tree), self.tree), votes, self.tree)

    def summary(self) -> VoteSummary:
        """Return what the export came to."""
        return VoteSummary(
            int((self.counts[:, -1] > 0).sum()),
            self.rows,
            self.counted,
            {reason: count for reason, count in self.left_out.most_common() if count},
            dict(self.rejects.most_common()),
            tuple(self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        yield f"galaxies are named by {self.export.layout.id_name}"
        if shared := len(self.subjects) - len(self.galaxies):
            yield f"{shared} subjects show a galaxy that another shows: their votes are counted together"
        votes = self.counts[:, len(self.tree.columns) : -1].sum(axis=0)
        if silent_ones := [
            q.name for q, number in zip(self.tree.questions, votes, strict=True) if not number
        ]:
            yield f"no votes on {', '.join(silent_ones)}"
        if self.other_tasks:
            yield f"tasks that are no question of {self.tree.name}: {self._other_tasks()}"
        if len(self.versions) > 1:
            counted = ", ".join(f"{name} ({count})" for name, count in self.versions.most_common())
            yield f"workflows: {counted}; --workflow and --workflow-version choose"

    def _other_tasks(self) -> str:
        return ", ".join(f'{task} "{text}"' if text else task for task, text in self.other_tasks.items())
