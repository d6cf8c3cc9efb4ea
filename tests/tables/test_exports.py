"""Exports of the Zooniverse become counts of votes: both layouts, and what cannot be read."""

import doctest
import gzip
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from exports_written import COLUMNS, IMAGE, SMOOTH, answered, row, write_export
from typer.testing import CliRunner

import hubblefork as hf
from hubblefork import cli
from hubblefork.data.labels import read_labels
from hubblefork.errors import CatalogueError, UnknownAnswer
from hubblefork.tables import exports
from hubblefork.tables.catalogue import read_catalogue
from hubblefork.tables.counts import count_votes
from hubblefork.tables.exports import words_of
from hubblefork.tables.rejects import read_rejects
from hubblefork.zoo import Answer, DecisionTree, load_tree, parse_tree
from hubblefork.zoo.tree import tree_text

DECALS = load_tree("gz_decals_5")
OWN = parse_tree(
    """
    name = "own"
    [[questions]]
    name = "kind"
    task = "T0"
    text = "Which kind?"
    root = true
    answers = [{ name = "disk", text = "Disk", column = "disk", leads_to = ["signs", "ring"] },
               { name = "ball", text = "Ball", column = "ball" }]
    [[questions]]
    name = "signs"
    task = "T1"
    text = "Any signs?"
    multiple = true
    answers = [{ name = "shell", text = "A shell", column = "shell" },
               { name = "tail", text = "A tail", column = "tail" },
               { name = "dust", text = "Dust", column = "dust" }]
    [[questions]]
    name = "ring"
    task = "T2"
    text = "Is there a ring?"
    answers = [{ name = "has_ring", text = "Yes", column = "has_ring" }]
    """,
    "own",
)


@pytest.fixture
def count(tmp_path):
    """Count some rows; returns votes by galaxy, the rejects and the summary."""

    def counted(rows, tree=OWN, columns=COLUMNS, **how):
        path = rows if not isinstance(rows, list) else write_export(tmp_path / "export.csv", rows, columns)
        out = tmp_path / "votes.parquet"
        summary = count_votes(path, out, tree=tree, **how)
        table = read_catalogue(out)
        votes = {entry.pop("galaxy_id"): entry for entry in table.to_pylist()}
        return votes, read_rejects(tmp_path / "votes.parquet.rejects.csv"), summary

    return counted


def filled(votes):
    """Return the counts that are not 0, fractions left out."""
    return {
        name: number for name, number in votes.items() if number and (name == "volunteers" or is_count(name))
    }


def is_count(name):
    return name.endswith(("_count", "_total_votes")) or "-dr" in name


def test_texts_in_markdown_are_counted_in_the_published_columns(count, tmp_path):
    first = answered(("T0", f"{IMAGE}Features or disk"), ("T2", "No - something else"), T0=SMOOTH)
    second = answered(
        ("T0", "SMOOTH "), ("T1", "![round](https://x/y.png)Cigar-Shaped"), T0=f"{IMAGE}{SMOOTH}"
    )
    votes, rejects, summary = count([row(first), row(second, user="bo"), row(second, subject="2")], DECALS)
    assert filled(votes["J1"]) == {
        "volunteers": 2,
        "smooth-or-featured-dr5_smooth": 1,
        "smooth-or-featured-dr5_featured-or-disk": 1,
        "smooth-or-featured-dr5_total-votes": 2,
        "disk-edge-on-dr5_no": 1,
        "disk-edge-on-dr5_total-votes": 1,
        "how-rounded-dr5_cigar-shaped": 1,
        "how-rounded-dr5_total-votes": 1,
    }
    assert votes["J2"]["volunteers"] == 1 and rejects == []
    kinds = read_catalogue(tmp_path / "votes.parquet").schema.types[1:]
    assert set(kinds) == {pa.int32()} and len(kinds) == 1 + len(DECALS.columns) + len(DECALS.questions)
    assert (summary.galaxies, summary.classifications, summary.counted) == (2, 3, 3)
    assert summary.notes[0] == "galaxies are named by iauname"


@pytest.mark.parametrize("tree", [OWN, DECALS])
def test_the_votes_are_labels_that_ingest_reads(count, tmp_path, tree):
    texts = ["Disk", "Disk", "Ball"] if tree is OWN else ["Smooth", "Smooth", "Star or artifact"]
    count([row(answered(("T0", text)), user=f"u{n}") for n, text in enumerate(texts)], tree)
    labels = read_labels([tmp_path / "votes.parquet"], tree)
    first, second = ("disk", "ball") if tree is OWN else (tree.columns[0], tree.columns[2])
    joint = labels.joint[labels.row_of["J1"]]
    assert joint[tree.column(first)] == pytest.approx(2 / 3) and joint[tree.column(second)] == pytest.approx(
        1 / 3
    )
    assert labels.rejects == []
    assert labels.votes.given[0].sum() == labels.votes.asked[0].sum() == 3


def test_what_counts_as_the_same_words():
    assert words_of(f"{IMAGE}No -  <b>edge on</b> disk") == "no edge on disk"
    assert words_of("[a link](https://x) More&nbsp;than_4") == "more than 4"
    assert words_of("Can’t tell") == words_of("can't tell") == "cant tell"
    assert words_of("![Only an image](https://x)") == "only an image"


def test_a_volunteer_counts_once_for_a_galaxy_with_the_first_answer(count):
    disk, ball = answered(("T0", "Disk")), answered(("T0", "Ball"))
    rows = [
        row(answered(("T0", None)), user="ada"),  # says nothing, so it is not the first
        row(disk, user="ada"),
        row(ball, user="ada"),
        row(ball, user="ada", subject="2"),
        row(disk, user="", user_ip="aa", user_name="not-logged-in-aa"),
        row(ball, user="", user_ip="aa", user_name="not-logged-in-aa"),
        row(ball, user="", user_ip="bb", user_name="not-logged-in-bb"),
        row(ball, user="ada", user_id="", user_name="294"),  # a name that is another's id
        row(ball, user="", user_ip="", user_name=""),
        row(ball, user="", user_ip="", user_name=""),
    ]
    votes, _, summary = count(rows)
    assert filled(votes["J1"]) == {"volunteers": 6, "disk_count": 2, "ball_count": 4, "kind_total_votes": 6}
    assert filled(votes["J2"]) == {"volunteers": 1, "ball_count": 1, "kind_total_votes": 1}
    assert summary.left_out == {"a second classification of a galaxy by one volunteer": 2, "no answer": 1}


@pytest.mark.parametrize("block", [2**22, 900])
def test_the_first_answer_is_the_earliest_wherever_it_stands(count, monkeypatch, block):
    monkeypatch.setattr("hubblefork.tables.exports.BLOCK", block)
    disk, ball = answered(("T0", "Disk")), answered(("T0", "Ball"))
    late, early, unsaid = (
        {"created_at": text} for text in ("2017-05-12 08:34:21 UTC", "2017-05-12T08:34:20Z", "")
    )
    rows = [
        *(row(ball, user="ada", **when) for when in (unsaid, late)),
        row(answered(("T0", None)), user="ada", created_at="2016-01-01 00:00:00 UTC"),
        row(disk, user="ada", **early),
        *(row(ball, user="bo", **late), row(disk, user="bo", **late)),
        row(ball, user="cy", created_at="yesterday"),
    ]
    votes, (reject,), summary = count(rows)
    assert filled(votes["J1"]) == {"volunteers": 2, "disk_count": 1, "ball_count": 1, "kind_total_votes": 2}
    assert (reject.reason, reject.value.partition(";")[0]) == ("no time", 'line 8: created_at is "yesterday"')
    assert summary.left_out["a second classification of a galaxy by one volunteer"] == 3


def test_checkboxes_and_combined_tasks(count):
    boxes = [answered(("T0", "Disk"), ("T1", value)) for value in (["A tail", "Dust"], [], ["Dust"], None)]
    combined = answered(("T7", answered(("T0", "Disk"), ("T1", ["A shell"]))))
    rows = [row(said, user=f"user {number}") for number, said in enumerate([*boxes, combined])]
    votes, rejects, _ = count(rows)
    assert filled(votes["J1"]) == {
        **{"volunteers": 5, "disk_count": 5, "kind_total_votes": 5},
        **{"shell_count": 1, "tail_count": 1, "dust_count": 2, "signs_total_votes": 4},
    }
    assert rejects == []


def test_places_of_answers_go_by_the_tree_of_ones_own(count):
    rows = [
        row(answered(("T0", 1))),
        row(answered(("T0", 0), ("T1", [2, 0])), user="bo"),
        row(answered(("T0", 2)), user="c"),
    ]
    votes, (reject,), _ = count(rows)
    assert filled(votes["J1"]) == {
        **{"volunteers": 2, "disk_count": 1, "ball_count": 1, "kind_total_votes": 2},
        **{"dust_count": 1, "shell_count": 1, "signs_total_votes": 1},
    }
    assert (reject.reason, reject.value) == ("no answer of kind", "line 4: T0 is 2, of 2 answers from 0")


def test_places_of_a_published_tree_need_the_order_of_the_site(count, tmp_path):
    rows = [row(answered(("T8", 0)))]
    with pytest.raises(
        CatalogueError, match=r'order of the site is not known; .*T8 = \{ answers = \["bulge_size'
    ):
        count(rows, DECALS)
    tasks = tmp_path / "tasks.toml"
    tasks.write_text('T8 = { answers = ["bulge_size_none", "bulge_size_small"] }')
    votes, _, _ = count(rows, DECALS, tasks=tasks)
    assert filled(votes["J1"]) == {"volunteers": 1, "bulge-size-dr5_none": 1, "bulge-size-dr5_total-votes": 1}


def test_rows_that_cannot_be_read_are_named_with_line_reason_and_value(count, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "BLOCK", 700)
    good, annotations = row(answered(("T0", "Disk"))), json.dumps(answered(("T0", "Disk")))
    rows = [
        {**good, "workflow_name": "two\nlines"},
        row(annotations[:-5], user="b"),
        row(answered(("T0", "Bale")), user="c"),
        {**good, "subject_data": '{"1": ', "subject_ids": "7"},
        row(answered(("T0", "Disk"), ("T0", "Ball")), user="d"),
        row("{}", user="e"),
        row(answered(("T0", {"x": 1})), user="f"),
        {**good, "subject_ids": "1;2", "user_id": "9"},
        row(answered(("T0", "Ball")), user="g"),
    ]
    path = write_export(tmp_path / "export.csv", rows)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:5], "\n", '"a\nb",c\n', *lines[5:], 'cut,"of']))
    votes, rejects, summary = count(path)
    assert filled(votes["J1"]) == {"volunteers": 2, "disk_count": 1, "ball_count": 1, "kind_total_votes": 2}
    said = {reject.value.partition(":")[0]: (reject.reason, reject.value) for reject in rejects}
    assert {line: reason for line, (reason, _) in said.items()} == {
        "line 4": "broken JSON in annotations",
        "line 5": "no answer of kind",
        "line 7": "wrong number of cells",
        "line 9": "broken JSON in subject_data",
        "line 10": "several answers to kind",
        "line 11": "annotation without a task",
        "line 12": "no answer of kind",
        "line 13": "several subjects in one classification",
        "line 15": "wrong number of cells",
    }
    assert said["line 5"][1] == 'line 5: T0 is "Bale" (did you mean "ball"?)'
    assert annotations[:20] in said["line 4"][1] and said["line 7"][1] == 'line 7: "a\nb",c'
    assert {reject.galaxy_id for reject in rejects if reject.reason == "no answer of kind"} == {"J1"}
    assert sum(summary.rejects.values()) == 9 and summary.classifications == 11


def test_versions_workflows_and_gold_standard_are_chosen(count):
    disk = answered(("T0", "Disk"))
    rows = [
        row(disk, user="a"),
        row(disk, user="b", workflow_version="66.1"),
        row(disk, user="c", workflow_version="6.425"),
        row(disk, user="d", workflow_version="67.1"),
        row(disk, user="e", workflow_id="9", workflow_name="beta"),
        row(disk, user="f", gold_standard="true"),
        row(disk, user="g", workflow_version="660.1"),
    ]

    def counted(**how):
        votes, _, summary = count(rows, **how)
        return votes["J1"]["disk_count"], summary

    assert counted()[0] == 6
    assert "workflows: 6122 version 66 (2), " in counted()[1].notes[-1]
    assert counted(gold_standard=True)[0] == 7
    assert counted(versions=["66"])[0] == 3 and counted(versions=["66.1", "67"])[0] == 2
    assert counted(workflow="beta")[0] == 1
    number, summary = counted(workflow="6122", versions=["66"])
    assert number == 2
    assert summary.left_out == {
        "of another workflow version": 3,
        "gold standard": 1,
        "of another workflow": 1,
    }


def test_a_galaxy_is_named_by_its_subjects_metadata(count):
    disk = answered(("T0", "Disk"))
    rows = [
        row(disk, subject="1", metadata={"iauname": "J1", "#ID_Str": " 77 ", "mag": 1}),
        row(disk, subject="2", metadata={"!iauname": "J2", "id_str": 78}),
        row(disk, subject="3", metadata={"iauname": "J2"}, user="bo"),
    ]
    votes, (reject,), summary = count(rows)
    assert {*votes} == {77, 78} and summary.notes[0] == "galaxies are named by id_str"
    assert (reject.reason, reject.value) == ("subject without id_str", "line 4: subject 3: None")
    votes, _, summary = count(rows, id_name="iauname")
    assert votes["J1"]["volunteers"] == 1 and votes["J2"]["volunteers"] == 2
    assert summary.notes[1].startswith("1 subjects show a galaxy that another shows")
    assert {*count(rows, id_name="subject")[0]} == {1, 2, 3}
    with pytest.raises(CatalogueError, match=r'3 × subject without iau_name; .*did you mean "iauname"'):
        count(rows, id_name="iau_name")


def test_tasks_of_other_names_and_texts_are_said_in_a_file(count, tmp_path):
    tasks = tmp_path / "tasks.toml"
    tasks.write_text(
        'T5 = "signs"\nT9 = ""\n'
        '[T3]\nquestion = "kind"\nanswers = { "A flat one" = "disk", "Not sure" = "" }\n'
        '[T4]\nquestion = "ring"\nanswers = { "No" = "" }'
    )
    said = answered(
        ("T3", "A flat one!"), ("T5", ["Dust"]), ("T9", "Yes"), ("T4", "No"), ("T8", "x"), T8="Talk?"
    )
    rows = [row(said), row(answered(("T3", "Not sure"), ("T4", "Yes")), user="bo")]
    votes, rejects, summary = count(rows, tasks=tasks)
    assert filled(votes["J1"]) == {
        **{"volunteers": 2, "disk_count": 1, "kind_total_votes": 1, "dust_count": 1, "signs_total_votes": 1},
        **{"has_ring_count": 1, "ring_total_votes": 2},
    }
    assert rejects == [] and 'tasks that are no question of own: T9, T8 "Talk?"' in summary.notes[-1]
    tasks.write_text('T3 = "kinds"')
    with pytest.raises(UnknownAnswer, match=r'"kinds" is not a question of own \(did you mean "kind"\?\)'):
        count(rows, tasks=tasks)
    tasks.write_text("T3 = { anwsers = [] }")
    with pytest.raises(CatalogueError, match=r"tasks.toml: T3.anwsers = .*Extra inputs.* write T0 ="):
        count(rows, tasks=tasks)


def test_a_text_goes_before_a_key_and_what_is_called_the_same_has_no_name(count):
    said = answered(("T1", "Disk"), ("T44", ["Dust"]), T1="Which kind?", T44="Any *signs*?")
    votes, _, _ = count([row(said)])
    assert filled(votes["J1"]) == {
        **{"volunteers": 1, "disk_count": 1, "kind_total_votes": 1, "dust_count": 1, "signs_total_votes": 1}
    }
    twins = replace(OWN.questions[0], answers=(Answer("a", "Same", "a"), Answer("b", "Same", "b")))
    rows = [row(answered(("T0", "Same"))), row(answered(("T0", "B")), user="bo")]
    votes, (reject,), _ = count(rows, DecisionTree("twins", (twins,)))
    assert filled(votes["J1"]) == {"volunteers": 1, "b_count": 1, "kind_total_votes": 1}
    assert reject.value == 'line 2: T0 is "Same"'


ODD = {"decals-9": "a-0", "decals-10": "x-1;x-3"}


def ouroboros(**cells):
    return {
        "_id": "55a",
        "subject_id": "56f3",
        "created_at": "2015-10-02 09:41:23 UTC",
        "user": "ada",
        "user_ip": "1",
        **cells,
    }


def test_ouroboros_counts_the_answers_from_zero_in_the_order_of_the_site(count):
    columns = ["_id", "subject_id", "created_at", "user", "user_ip", *(f"decals-{n}" for n in range(12))]
    rows = [
        ouroboros(**{"decals-0": "a-1", "decals-4": "a-0", "decals-7": "a-0", **ODD}),
        ouroboros(**{"decals-0": "a-0"}),
        ouroboros(**{"decals-0": "a-0", "user": "", "user_ip": "2"}),
        ouroboros(**{"decals-0": "a-0", "user": "", "user_ip": "2", "subject_id": "56f4"}),
        ouroboros(**{"decals-0": "a-1", "user": "", "user_ip": "2"}),
        ouroboros(**{"decals-0": "a-1", "user": "", "user_ip": "3", "subject_id": "56f4"}),
        ouroboros(**{"decals-0": "b-0", "user": "bo"}),
        ouroboros(**{"decals-0": "a-3", "user": "bo"}),
        ouroboros(**{"decals-0": "a-0;a-1", "user": "bo"}),
    ]
    votes, rejects, summary = count(rows, load_tree("gz_decals_1_2"), columns)
    assert filled(votes["56f3"]) == {
        "volunteers": 2,
        **{"smooth-or-featured-dr12_smooth": 1, "smooth-or-featured-dr12_featured-or-disk": 1},
        **{
            "smooth-or-featured-dr12_total-votes": 2,
            "bulge-size-dr12_none": 1,
            "bulge-size-dr12_total-votes": 1,
        },
        **{"edge-on-bulge-dr12_rounded": 1, "edge-on-bulge-dr12_total-votes": 1},
        **{"merging-dr12_merger": 1, "merging-dr12_total-votes": 1},
    }
    assert {*votes} == {"56f3", "56f4"} and "decals-10" in summary.notes[-1]
    reasons = [
        "no answer of Ouroboros",
        "no answer of smooth_or_featured",
        "several answers to smooth_or_featured",
    ]
    assert [reject.reason for reject in rejects] == reasons
    assert summary.left_out == {"a second classification of a galaxy by one volunteer": 2}
    assert votes["56f4"]["volunteers"] == 2


def test_checkboxes_of_ouroboros(count, tmp_path):
    tasks = tmp_path / "tasks.toml"
    tasks.write_text('own-0 = "kind"\nown-6 = "signs"')
    columns = ["_id", "nsa", "subject_id", "user_name", "own-0", "own-6"]
    boxes = ["x-0;x-2", "x-1;a-0", "a-0", "", "x-5"]
    rows = [
        {"nsa": "n1", "subject_id": "s", "user_name": f"u{n}", "own-0": "a-0", "own-6": said}
        for n, said in enumerate(boxes)
    ]
    votes, (reject,), _ = count(rows, OWN, columns, tasks=tasks, id_name="nsa")
    assert filled(votes["n1"]) == {
        **{"volunteers": 4, "disk_count": 4, "kind_total_votes": 4},
        **{"shell_count": 1, "tail_count": 1, "dust_count": 1, "signs_total_votes": 3},
    }
    assert reject.value == "line 6: own-6 is 5, of 3 answers from 0"
    with pytest.raises(CatalogueError, match=r'no column "nsa_id" \(did you mean "nsa"\?\).* of Ouroboros'):
        count(rows, OWN, columns, id_name="nsa_id")


def test_the_packaged_orders_name_every_answer_once():
    from importlib import resources

    from hubblefork.tables.exports import Tasks

    files = [file.name for file in resources.files("hubblefork.tables").joinpath("sites").iterdir()]
    assert len(files) == 5
    for name in files:
        tree = load_tree(name.removesuffix(".toml"))
        tasks = Tasks(tree)
        asked = {tasks.question(task, ""): order for task, order in tasks._orders.items()}
        assert sorted(asked) == list(range(len(tree.questions)))
        for number, order in asked.items():
            assert sorted(order) == list(range(len(tree.columns)))[tree.slices[number]]


def test_counts_do_not_depend_on_blocks(count, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "BLOCK", 2000)
    rng, rows, seen, expected = np.random.default_rng(3), [], set(), Counter()
    for _ in range(600):
        user, subject, answer = (
            f"user {rng.integers(12)}",
            str(rng.integers(40)),
            str(rng.choice(["Disk", "Ball"])),
        )
        rows.append(row(answered(("T0", answer)), user=user, subject=subject))
        if (user, subject) not in seen:
            seen.add((user, subject))
            expected[f"J{subject}", answer] += 1
    path = write_export(tmp_path / "export.csv", rows)
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for file in (path, packed):
        votes, _, summary = count(file)
        assert {key: votes[key[0]][f"{key[1].lower()}_count"] for key in expected} == expected
        assert (summary.counted, summary.classifications) == (len(seen), 600)


def test_a_file_of_which_nothing_can_be_counted_leaves_nothing(count, tmp_path):
    with pytest.raises(CatalogueError, match=r"no classification is counted: it has no rows"):
        count([])
    with pytest.raises(CatalogueError, match=r"1 × broken JSON in annotations; the first: line 2: "):
        count([row("[")])
    with pytest.raises(
        CatalogueError, match=r'1 × no answer; no question of own are T7 "Why\?"; --tasks says'
    ):
        count([row(answered(("T7", "x"), T7="Why?"))])
    with pytest.raises(CatalogueError, match=r"not an export of classifications: .*it has galaxy_id, disk"):
        count([], columns=["galaxy_id", "disk"])
    with pytest.raises(CatalogueError, match=r'no column "workflow_version" in this export of Ouroboros'):
        count([], columns=["subject_id", "a-0"], versions=["1"])
    with pytest.raises(CatalogueError, match=r"cannot be read: .*No such file"):
        count(tmp_path / "none.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"export.csv"}


def test_a_quote_that_is_not_closed_stops_the_count(count, tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "BLOCK", 1500)
    path = write_export(
        tmp_path / "export.csv", [row(answered(("T0", "Disk")), user=f"u{n}") for n in range(9)]
    )
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:6], '1,"', *(line.replace('"', "") for line in lines[6:] * 9)]))
    with pytest.raises(CatalogueError, match=r"below line \d: a quote is not closed; fetch it again"):
        count(path)
    assert not (tmp_path / "votes.parquet").exists()


def test_the_example_of_the_library_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [row(answered(("T0", "Smooth")), subject=str(number)) for number in range(3)]
    write_export(tmp_path / "classifications.csv", rows)
    (tmp_path / "my.toml").write_text(tree_text(DECALS))
    example = doctest.DocTestFinder().find(count_votes, "count_votes", globs={"hf": hf})[0]
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_command_says_what_became_of_the_classifications(tmp_path):
    path, out = (
        write_export(tmp_path / "export.csv", [row(answered(("T0", "Smooth"))), row("[")]),
        tmp_path / "v.csv",
    )
    done = CliRunner().invoke(
        cli.app, ["-q", "zooniverse", "votes", str(path), "--tree", "gz_decals_5", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    said = "".join(done.output.split())  # a terminal breaks long paths anywhere
    expected = f"{out}: 1 galaxies, 1 of 2 classifications counted; 1 refused, see {out}.rejects.csv"
    assert "".join(expected.split()) in said
    assert "1×brokenJSONinannotationsgalaxiesarenamedbyiaunamenovotesondisk_edge_on," in said
    assert out.read_text().startswith('"galaxy_id","volunteers","smooth-or-featured-dr5_smooth"')
