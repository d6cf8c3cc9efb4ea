"""Marks survive a kill, several people and processes at once, and become labels that are learned from."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hubblefork.data.labels import read_labels
from hubblefork.errors import CatalogueError, UnknownAnswer
from hubblefork.gallery.marks import Marks
from hubblefork.tables.catalogue import votes_of, write_catalogue
from hubblefork.zoo import Answer, DecisionTree, Question, plain_columns


@pytest.fixture
def marks(tmp_path: Path, tree: DecisionTree) -> Marks:
    return Marks(tmp_path / "sky.gallery" / "marks.sqlite", tree)


def said(marks: Marks, galaxy_id: str = "7") -> list[tuple]:
    return [(mark.person, mark.kind, mark.value, mark.holds) for mark in marks.of([galaxy_id])]


def test_the_file_is_made_with_the_first_mark_and_found_when_another_makes_it(tmp_path, tree):
    path = tmp_path / "sky.gallery" / "marks.sqlite"
    first, second = Marks(path, tree), Marks(path, tree)
    assert first.tags() == {} and first.of(["1"]) == []
    assert not path.parent.exists()
    first.say("Ada", "1", "tag", "ring")
    assert second.tags() == {"ring": 1}


def test_an_answer_replaces_the_persons_earlier_one_and_undo_brings_it_back(marks: Marks) -> None:
    marks.say("Ada", "7", "answer", "smooth")
    marks.say("Ben", "7", "answer", "smooth")
    marks.say("Ada", "7", "answer", "features_or_disk")
    ben, ada = ("Ben", "answer", "smooth", True), ("Ada", "answer", "features_or_disk", True)
    assert said(marks) == [ben, ada]
    assert marks.galaxies(answer="smooth") == ["7"] and not marks.galaxies(answer="smooth", person="Ada")
    undone = marks.undo("Ada")
    assert undone and undone.value == "features_or_disk"
    assert said(marks) == [("Ada", "answer", "smooth", True), ben]
    assert marks.undo("Ada") and not marks.undo("Ada")
    assert said(marks) == [ben]


def test_stars_and_tags_are_found_again(marks: Marks) -> None:
    for person, galaxy_id, kind, value in (
        ("Ada", "7", "tag", " blue  lens "),
        ("Ada", "8", "tag", "ring"),
        ("Ben", "8", "star", ""),
        ("Ben", "007", "tag", "ring"),
    ):
        marks.say(person, galaxy_id, kind, value)
    assert marks.tags() == {"blue  lens": 1, "ring": 2}
    assert marks.people() == {"Ada": 2, "Ben": 2}
    assert marks.galaxies(tag="ring") == ["8", "007"]
    assert marks.galaxies(tag="ring", starred=True) == ["8"]
    assert marks.galaxies(tag="ring", person="Ben") == ["007"]
    assert marks.galaxies(person="Ada") == ["7", "8"]
    marks.say("Ada", "8", "tag", "ring", holds=False)
    assert marks.galaxies(tag="ring") == ["007"]
    assert said(marks, "8") == [("Ben", "star", "starred", True)]


@pytest.mark.parametrize(
    ("person", "galaxy_id", "kind", "value", "named"),
    [
        ("", "7", "star", "", "person is ''"),
        ("A" * 61, "7", "star", "", "1 to 60"),
        ("Ada\n", "7\x00", "star", "", "galaxy_id"),
        ("Ada", "7", "tag", "a\nb", "tag"),
        ("Ada", "7", "praise", "", "no kind of mark"),
        ("Ada", "7", "answer", "smoth", 'did you mean "smooth"'),
    ],
)
def test_what_cannot_be_a_mark_is_refused(
    marks: Marks, person: str, galaxy_id: str, kind: str, value: str, named: str
) -> None:
    with pytest.raises((CatalogueError, UnknownAnswer), match=named):
        marks.say(person, galaxy_id, kind, value)
    assert not marks.people()


def test_answers_become_labels(marks: Marks, tree: DecisionTree, tmp_path: Path) -> None:
    for person in ("Ada", "Ben", "Cleo"):
        spiral = "no_spiral" if person == "Cleo" else "spiral"
        for answer in ("features_or_disk", "not_edge_on", "no_bar", spiral):
            marks.say(person, "7", "answer", answer)
    marks.say("Ben", "7", "answer", "smooth")  # so the others of his are answers to what he was not asked
    marks.say("Ben", "8", "answer", "smooth")
    marks.say("Ben", "8", "answer", "smooth", holds=False)
    table = marks.votes()
    assert table.column("galaxy_id").to_pylist() == [7]
    votes = votes_of(table, tree)
    assert votes is not None
    given = {a: int(n) for a, n in zip(tree.columns, votes.given[0], strict=True) if n}
    twice = dict.fromkeys(("features_or_disk", "not_edge_on", "no_bar"), 2)
    assert given == {"smooth": 1, **twice, "spiral": 1, "no_spiral": 1}
    write_catalogue(table, tmp_path / "votes.csv")
    labels = read_labels([tmp_path / "votes.csv"], tree)
    assert not labels.rejects
    assert labels.joint[0, tree.column("spiral")] == pytest.approx(1 / 3)


def test_a_no_counts_where_several_answers_may_be_given(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks.sqlite", plain_columns(["ring", "lens"]))
    marks.say("Ada", "7", "answer", "ring")
    marks.say("Ada", "7", "answer", "lens", holds=False)
    assert [(mark.value, mark.holds) for mark in marks.of(["7"])] == [("ring", True), ("lens", False)]
    assert marks.votes().select(["ring", "lens", "lens_total_votes"]).to_pylist() == [
        {"ring": 1.0, "lens": 0.0, "lens_total_votes": 1}
    ]
    boxes = tuple(Answer(name, name, name) for name in ("ring", "lens", "dust"))
    tree = DecisionTree("odd", (Question("odd", "Anything odd?", boxes, root=True, multiple=True),))
    boxed = Marks(tmp_path / "boxed.sqlite", tree)
    for name in ("ring", "lens"):
        boxed.say("Ada", "7", "answer", name)
    assert boxed.votes().select(list(tree.columns)).to_pylist() == [{"ring": 1.0, "lens": 1.0, "dust": 0.0}]


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, tree: DecisionTree) -> None:
    program = (
        "import sys, itertools; from pathlib import Path; from hubblefork.gallery.marks import Marks\n"
        "from hubblefork.zoo import load_tree; marks = Marks(Path(sys.argv[1]), load_tree())\n"
        "for n in itertools.count():\n"
        "    marks.say('Ada', str(n), 'star'); print(n, flush=True)\n"
    )
    path = tmp_path / "marks.sqlite"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout
        acknowledged = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        acknowledged += process.stdout.readlines()
    starred = Marks(path, tree).galaxies(starred=True)
    assert starred[: len(acknowledged)] == [line.decode().strip() for line in acknowledged]
    assert len(starred) <= len(acknowledged) + 1


def test_several_threads_and_two_openings_write_at_once(marks: Marks, tree: DecisionTree) -> None:
    other = Marks(marks.path, tree)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: (marks, other)[n % 2].say(f"p{n % 5}", str(n), "star"), range(60)))
    assert len(marks.galaxies(starred=True)) == 60


def test_another_file_is_named(tmp_path: Path, tree: DecisionTree) -> None:
    path = tmp_path / "marks.sqlite"
    path.write_text("galaxy_id,star\n" * 99)
    with pytest.raises(CatalogueError, match=r"marks\.sqlite holds no marks"):
        Marks(path, tree)
