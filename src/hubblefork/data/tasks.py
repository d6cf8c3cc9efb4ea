"""Which question of a decision tree a project's task is, and which answer a volunteer's words or number are.

A task is a question if a file says so, else if its text is the question's, else if its key (T0, NAME-0) is
the question's `task`. An answer goes by its text, its name or the source's name for it; upper case,
punctuation, images and links in Markdown do not count. An answer that is a number goes by its place on the
site, from 0: a file lists the answers in that order; of a tree of one's own it is the tree's. `sites/` has
such files of the projects whose exports hold nothing but keys and places.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hubblefork.errors import CatalogueError, did_you_mean
from hubblefork.io import read_toml
from hubblefork.zoo import DecisionTree, Question, tree_names

LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
UNSAID = -1
REMEDY = (
    'write T0 = "question" for a task, T0 = "" for one to leave out, or a table [T0] with question = "…" and '
    'answers = { "text" = "answer" }, or answers = ["answer", …] in the order of the site'
)


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
        site = Path(str(resources.files("hubblefork.data").joinpath("sites", f"{tree.name}.toml")))
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
