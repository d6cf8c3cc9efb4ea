"""The decision tree of a Galaxy Zoo project, held as data.

A tree is questions with answers; an answer leads to the next questions, one or several, or ends the
classification. The edge lives on the answer, so several answers may lead to one question.
`DecisionTree.columns` is the only order of the answers anywhere in hubblefork.

The fractions of a question sum to one, except in two kinds of question. Of a `multiple` question
(checkboxes) a volunteer may choose several answers; they lead nowhere, and what is asked afterwards stands
beside the question, on the answer that led to it. A question may also have one answer only: a plain column,
"is it a ring?", a share by itself whose "no" is written down nowhere. `plain_columns` makes a tree of those.

A question that is answered with a number is a tree by itself: its column holds no fraction but, say, a mass.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from hubblefork.errors import TreeError, UnknownAnswer, did_you_mean
from hubblefork.io import Packaged, write_text

DEFAULT = "galaxy_zoo_2"
PLAIN, CLASSES, NUMBER = "plain_columns", "classes", "number"
TREE = "tree.toml"
TREES = Packaged("hubblefork.zoo", "trees", "decision tree", TreeError)


@dataclass(frozen=True)
class Answer:
    """One answer: its name in our columns, its text, its column in the source's files, the next questions."""

    name: str
    text: str
    column: str
    leads_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Number:
    """Mean and standard deviation of a number, in its unit (as astropy writes it; empty without one)."""

    mean: float
    width: float
    unit: str = ""


@dataclass(frozen=True)
class Question:
    """One question: a `root` is asked of every galaxy; to a `multiple` one several answers may be given.

    With a `number` its one answer is no fraction but any number.
    """

    name: str
    text: str
    answers: tuple[Answer, ...]
    task: str = ""
    root: bool = False
    multiple: bool = False
    number: Number | None = None

    @property
    def exclusive(self) -> bool:
        """Whether a volunteer gives exactly one of several answers, so that the vote fractions sum to one."""
        return len(self.answers) > 1 and not self.multiple


@dataclass(frozen=True)
class DecisionTree:
    """Questions in the order of their columns, checked when built.

    `suffixes` are what published columns put behind a question, one for each survey ("dr5" in
    smooth-or-featured-dr5_smooth).

    Raises TreeError for a tree without questions, names that are not unique, edges to nowhere or from an
    answer of a `multiple` question, cycles, questions without answers, questions that no path reaches, and
    questions with two ways in that one volunteer can take: the sum of these would be no probability; and for
    a number that does not stand alone.
    """

    name: str
    questions: tuple[Question, ...]
    source: str = ""
    suffixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        complaints = self._name_complaints() + self._edge_complaints()
        complaints = complaints or self._order_complaints() or self._way_complaints()
        complaints = complaints or self._number_complaints()
        if complaints:
            raise TreeError(f"decision tree {self.name!r}: " + "; ".join(complaints))

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """All answers, in column order."""
        return tuple(chain.from_iterable(question.answers for question in self.questions))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of all answers: the columns of every catalogue and the order of every array."""
        return tuple(answer.name for answer in self.answers)

    @cached_property
    def words(self) -> dict[str, str]:
        """What a person reads for each column: its text, behind its question's name where texts repeat."""
        texts = [answer.text or answer.name.replace("_", " ") for answer in self.answers]
        if len(set(texts)) < len(texts):
            asked = (self.questions[number].name.replace("_", " ") for number in self.question_of)
            texts = [f"{question}: {text}" for question, text in zip(asked, texts, strict=True)]
        return dict(zip(self.columns, texts, strict=True))

    @cached_property
    def is_plain(self) -> bool:
        """Whether all columns are plain: no question has one answer to choose from several."""
        return not any(question.exclusive for question in self.questions)

    @property
    def number(self) -> Number | None:
        """What the only column is where it holds no fraction but a number."""
        return self.questions[0].number

    @property
    def scale(self) -> float:
        """What errors are measured in where they have no unit: a number's standard deviation, else 1."""
        return self.number.width if self.number else 1.0

    @cached_property
    def source_columns(self) -> tuple[str, ...]:
        """The same answers under their names in the source's files (Kaggle's Class1.1 …)."""
        return tuple(answer.column for answer in self.answers)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """For each question, the slice of its answers in the columns."""
        ends = np.cumsum([len(question.answers) for question in self.questions]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    @cached_property
    def ways_in(self) -> tuple[tuple[int, ...], ...]:
        """For each question, the columns of the answers that lead to it, be it a root or not."""
        return tuple(
            tuple(column for column, answer in enumerate(self.answers) if question.name in answer.leads_to)
            for question in self.questions
        )

    @cached_property
    def parents(self) -> tuple[tuple[int, ...], ...]:
        """For each question, the columns of the answers that lead to it; none for a root."""
        pairs = zip(self.questions, self.ways_in, strict=True)
        return tuple(() if question.root else ways for question, ways in pairs)

    @cached_property
    def asking_order(self) -> tuple[int, ...]:
        """The questions sorted so that each comes after all whose answers lead to it."""
        before = {number: {self.question_of[way] for way in ways} for number, ways in enumerate(self.ways_in)}
        return tuple(TopologicalSorter(before).static_order())

    @cached_property
    def question_of(self) -> tuple[int, ...]:
        """For each column, the number of its question."""
        return tuple(i for i, question in enumerate(self.questions) for _ in question.answers)

    @cached_property
    def gates(self) -> tuple[int | None, ...]:
        """For each question, the one answer whose joint fraction equals the question's reach.

        Where all answers of a question lead on to another, that other question is reached as
        often as the first: the spiral question, after both answers about a bar, is reached as
        often as "not edge-on" was answered. An answer alone is not: its "no" leads nowhere. None for a
        root. These are the "rescaling classes" of Kaggle's labels. Raises TreeError for a question with
        several independent ways in.
        """
        gates: dict[int, int | None] = {}
        for number in self.asking_order:
            gates[number] = self._gate(number, gates)
        return tuple(gates[number] for number in range(len(self.questions)))

    def _gate(self, number: int, gates: dict[int, int | None]) -> int | None:
        ways_in = set(self.parents[number])
        if not ways_in:
            return None
        for earlier in reversed(self.asking_order):
            answers = set(range(*self.slices[earlier].indices(len(self.answers))))
            gate = gates.get(earlier)
            exclusive = self.questions[earlier].exclusive
            if len(ways_in) > 1 and exclusive and answers <= ways_in and gate is not None:
                ways_in = ways_in - answers | {gate}
        if len(ways_in) > 1:
            names = ", ".join(self.columns[way] for way in sorted(ways_in))
            raise TreeError(
                f"question {self.questions[number].name!r} has several independent ways in: {names}"
            )
        return ways_in.pop()

    def column(self, answer: str) -> int:
        """Return the column of an answer named as here or as in the source. Raises UnknownAnswer."""
        for names in (self.columns, self.source_columns):
            if answer in names:
                return names.index(answer)
        near = did_you_mean(answer, [*self.columns, *self.source_columns])
        raise UnknownAnswer(f'"{answer}" is not an answer of {self.name}{near}')

    def question(self, name: str) -> Question:
        """Return the question of that name. Raises UnknownAnswer."""
        for question in self.questions:
            if name == question.name:
                return question
        near = did_you_mean(name, [q.name for q in self.questions])
        raise UnknownAnswer(f'"{name}" is not a question of {self.name}{near}')

    def part(self, answers: Collection[str]) -> DecisionTree:
        """Return the tree of the questions of some answers and of those before them. Raises UnknownAnswer."""
        kept = {self.question_of[self.column(answer)] for answer in answers}
        for number in reversed(self.asking_order):
            if number in kept:
                kept |= {self.question_of[parent] for parent in self.parents[number]}
        questions = [self.questions[number] for number in sorted(kept)]
        names = {question.name for question in questions}
        return replace(self, questions=tuple(_leading_to(question, names) for question in questions))

    def _name_complaints(self) -> list[str]:
        kinds = {
            "question": [q.name for q in self.questions],
            "answer": list(self.columns),
            "source column": list(self.source_columns),
        }
        twice = [
            f"{kind} {name!r} stands twice"
            for kind, names in kinds.items()
            for name, times in Counter(names).items()
            if times > 1
        ]
        empty = [f"question {q.name!r} has no answers" for q in self.questions if not q.answers]
        return twice + empty + ([] if self.questions else ["it has no questions"])

    def _edge_complaints(self) -> list[str]:
        names = {question.name for question in self.questions}
        edges = [
            (question, answer, to)
            for question in self.questions
            for answer in question.answers
            for to in answer.leads_to
        ]
        dangling = [
            f"answer {answer.name!r} leads to {to!r}, no question{did_you_mean(to, names)}"
            for _, answer, to in edges
            if to not in names
        ]
        boxes = [
            f"answer {answer.name!r} leads to {to!r}, but several answers may be given to {question.name!r}: "
            f"let what leads to {question.name!r} lead to {to!r} too"
            for question, answer, to in edges
            if question.multiple
        ]
        asked = {to for _, _, to in edges} | {q.name for q in self.questions if q.root}
        never = [f"question {name!r} is never asked and is no root" for name in sorted(names - asked)]
        return dangling + boxes + never

    def _order_complaints(self) -> list[str]:
        following = {q.name: set(chain.from_iterable(a.leads_to for a in q.answers)) for q in self.questions}
        try:
            tuple(TopologicalSorter(following).static_order())
        except CycleError as error:
            return ["questions lead back to themselves: " + " → ".join(reversed(error.args[1]))]
        return []

    def _way_complaints(self) -> list[str]:
        """Name the questions with two ways in that one volunteer can take."""
        complaints = []
        for number, ways_in in enumerate(self.parents):
            both = [pair for pair in combinations(ways_in, 2) if self._go_together(*pair)]
            if both:
                first, second = (self.columns[way] for way in both[0])
                complaints.append(
                    f"question {self.questions[number].name!r} follows {first!r} and {second!r}, and a "
                    "volunteer may give both: it could be asked twice"
                )
        return complaints

    def _number_complaints(self) -> list[str]:
        numbers = [question for question in self.questions if question.number]
        if numbers and len(self.columns) > 1:
            return [f"{numbers[0].name!r} is a number and stands alone: no other question, one answer"]
        scales = (question.number for question in numbers if question.number)
        return [f"{scale}: finite, width above 0" for scale in scales if not _is_scale(scale)]

    @cached_property
    def _order_of(self) -> dict[int, int]:
        return {question: place for place, question in enumerate(self.asking_order)}

    def _go_together(self, one: int, other: int) -> bool:
        """Whether a volunteer can give both: the later follows an answer that goes with the earlier."""
        if self.question_of[one] == self.question_of[other]:
            return one == other or self.questions[self.question_of[one]].multiple
        earlier, later = sorted((one, other), key=lambda column: self._order_of[self.question_of[column]])
        ways_in = self.parents[self.question_of[later]]
        return not ways_in or any(self._go_together(earlier, way) for way in ways_in)


def tree_names() -> tuple[str, ...]:
    """Return the names of the trees that come with hubblefork."""
    return TREES.names


def load_tree(name: str = DEFAULT) -> DecisionTree:
    """Load a tree that comes with hubblefork, by name, or another from a TOML file. Raises TreeError."""
    return parse_tree(TREES.text(name), origin=name)


def parse_tree(text: str, origin: str) -> DecisionTree:
    """Build a tree from its TOML text. Raises TreeError that names the origin."""
    try:
        data: dict[str, Any] = tomllib.loads(text)
        questions = tuple(Question(**{**question, **_parts(question)}) for question in data.pop("questions"))
        data["suffixes"] = tuple(data.get("suffixes", ()))
        texts = [data.get("name"), *chain.from_iterable(astuple(q)[:2] for q in questions)]
        texts += [question.number.unit for question in questions if question.number]
        texts += [
            text for q in questions for a in q.answers for text in (a.name, a.text, a.column, *a.leads_to)
        ]
        texts += data["suffixes"]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("names, texts and columns are text")
        return DecisionTree(questions=questions, **data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise TreeError(f"{origin}: not a decision tree: {error}; see trees/galaxy_zoo_2.toml") from error


def plain_columns(names: Sequence[str]) -> DecisionTree:
    """Return the tree of plain columns, each a question of its own asked of all. Raises TreeError."""
    questions = (Question(name, f"{name}?", (Answer(name, name, name),), root=True) for name in names)
    return DecisionTree(PLAIN, tuple(questions), "columns of a table of labels, each by itself")


def classes(column: str, values: Sequence[str]) -> DecisionTree:
    """Return the tree of one question, named as a column, whose answers are the values in its cells.

    An answer that is written as an integer is named with the column: kind_2. Raises TreeError.
    """
    answers = (Answer(f"{column}_{v}" if v.lstrip("-").isdecimal() else v, v, v) for v in values)
    question = Question(column, f"{column}?", tuple(answers), root=True)
    return DecisionTree(CLASSES, (question,), "classes of a table of labels, of which a galaxy has one")


def number_column(name: str, number: Number) -> DecisionTree:
    """Return the tree of a column that holds a number. Raises TreeError."""
    question = Question(name, f"{name}?", (Answer(name, name, name),), root=True, number=number)
    return DecisionTree(NUMBER, (question,), "a number of a table of labels")


def tree_text(tree: DecisionTree) -> str:
    """Return a tree in full as TOML, as `parse_tree` reads it."""
    entries = asdict(tree)
    for question in entries["questions"]:
        question["answers"] = [_entries(answer) for answer in question["answers"]]
    entries["questions"] = [_entries(question) for question in entries["questions"]]
    return tomli_w.dumps(_entries(entries))


def write_tree(tree: DecisionTree, folder: Path) -> None:
    """Write `tree.toml`: what was asked about the galaxies of a data or run folder. Raises DiskError."""
    write_text(folder / TREE, tree_text(tree))


def read_tree(folder: Path) -> DecisionTree:
    """Read the tree of a data or run folder; Galaxy Zoo 2's where none was written. Raises TreeError."""
    path = folder / TREE
    return load_tree(str(path)) if path.exists() else load_tree()


def _entries(of: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a question, an answer or a tree need not say; a single next question is text."""
    to = of.get("leads_to", ())
    entries = {**of, "leads_to": to[0] if len(to) == 1 else to}
    unsaid = {"multiple": False, "leads_to": (), "suffixes": (), "number": None}
    return {key: value for key, value in entries.items() if key not in unsaid or value != unsaid[key]}


def _leading_to(question: Question, names: Collection[str]) -> Question:
    """Return a question whose answers lead to those of some names alone."""
    answers = (
        replace(answer, leads_to=tuple(to for to in answer.leads_to if to in names))
        for answer in question.answers
    )
    return replace(question, answers=tuple(answers))


def _parts(question: dict[str, Any]) -> dict[str, Any]:
    number = {"number": Number(**question["number"])} if "number" in question else {}
    return {"answers": tuple(map(_answer, question["answers"])), **number}


def _is_scale(number: Number) -> bool:
    values = (number.mean, number.width)
    return all(isinstance(v, int | float) and math.isfinite(v) for v in values) and number.width > 0


def _answer(entries: dict[str, Any]) -> Answer:
    to = entries.get("leads_to", ())
    return Answer(**{**entries, "leads_to": (to,) if isinstance(to, str) else tuple(to)})
