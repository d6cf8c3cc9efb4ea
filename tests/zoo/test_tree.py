"""The decision tree: Galaxy Zoo 2's is the paper's, any tree is checked when built."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_trees import decision_trees

from hubblefork.errors import TreeError, UnknownAnswer
from hubblefork.zoo import (
    Answer,
    DecisionTree,
    Number,
    Question,
    excesses,
    load_tree,
    parse_tree,
    plain_columns,
    read_tree,
    tree_names,
    tree_text,
    violations,
    write_tree,
)

# Willett et al. 2013, table 2, in Kaggle's order of columns: task, the question, for each answer its
# Kaggle class and the task that follows ("" where the classification ends).
TABLE_2 = [
    (
        "T01",
        "Is the galaxy simply smooth and rounded, with no sign of a disk?",
        [("1.1 smooth", "T07"), ("1.2 features or disk", "T02"), ("1.3 star or artifact", "")],
    ),
    (
        "T02",
        "Could this be a disk viewed edge-on?",
        [("2.1 edge-on disk", "T09"), ("2.2 not edge-on", "T03")],
    ),
    (
        "T03",
        "Is there a sign of a bar feature through the centre of the galaxy?",
        [("3.1 bar", "T04"), ("3.2 no bar", "T04")],
    ),
    ("T04", "Is there any sign of a spiral arm pattern?", [("4.1 spiral", "T10"), ("4.2 no spiral", "T05")]),
    (
        "T05",
        "How prominent is the central bulge, compared with the rest of the galaxy?",
        [
            ("5.1 no bulge", "T06"),
            ("5.2 bulge just noticeable", "T06"),
            ("5.3 bulge obvious", "T06"),
            ("5.4 bulge dominant", "T06"),
        ],
    ),
    ("T06", "Is there anything odd?", [("6.1 something odd", "T08"), ("6.2 nothing odd", "")]),
    (
        "T07",
        "How rounded is it?",
        [("7.1 completely round", "T06"), ("7.2 in between", "T06"), ("7.3 cigar-shaped", "T06")],
    ),
    (
        "T08",
        "Is the odd feature a ring, or is the galaxy disturbed or irregular?",
        [
            ("8.1 ring", ""),
            ("8.2 lens or arc", ""),
            ("8.3 disturbed", ""),
            ("8.4 irregular", ""),
            ("8.5 other", ""),
            ("8.6 merger", ""),
            ("8.7 dust lane", ""),
        ],
    ),
    (
        "T09",
        "Does the galaxy have a bulge at its centre? If so, what shape?",
        [("9.1 rounded bulge", "T06"), ("9.2 boxy bulge", "T06"), ("9.3 no bulge (edge-on)", "T06")],
    ),
    (
        "T10",
        "How tightly wound do the spiral arms appear?",
        [("10.1 tight arms", "T11"), ("10.2 medium arms", "T11"), ("10.3 loose arms", "T11")],
    ),
    (
        "T11",
        "How many spiral arms are there?",
        [
            ("11.1 1 arm", "T05"),
            ("11.2 2 arms", "T05"),
            ("11.3 3 arms", "T05"),
            ("11.4 4 arms", "T05"),
            ("11.5 more than 4 arms", "T05"),
            ("11.6 can't tell (arms)", "T05"),
        ],
    ),
]


def binary(name: str, yes: str = "", no: str = "", *, root: bool = False, multiple: bool = False) -> Question:
    answers = tuple(
        Answer(f"{name}_{text}", text, f"{name}.{place}", tuple(to.split()))
        for place, (text, to) in enumerate([("yes", yes), ("no", no)], 1)
    )
    return Question(name, f"{name}?", answers, root=root, multiple=multiple)


def complaint(*questions: Question) -> str:
    with pytest.raises(TreeError) as caught:
        DecisionTree("sketch", questions)
    return str(caught.value)


def test_galaxy_zoo_2_is_table_2_of_willett_2013(tree: DecisionTree) -> None:
    task = {question.name: question.task for question in tree.questions}
    found = [
        (
            question.task,
            question.text,
            [
                (
                    f"{answer.column.removeprefix('Class')} {answer.text}",
                    " ".join(task[name] for name in answer.leads_to),
                )
                for answer in question.answers
            ],
        )
        for question in tree.questions
    ]
    assert found == TABLE_2


def test_the_order_of_the_37_columns_is_kaggles(tree: DecisionTree) -> None:
    sizes = (3, 2, 2, 2, 4, 2, 3, 7, 3, 3, 6)
    kaggle = [f"Class{q}.{a}" for q, size in enumerate(sizes, 1) for a in range(1, size + 1)]
    assert tree.source_columns == tuple(kaggle)
    assert len(tree.columns) == len(set(tree.columns)) == 37
    assert [answers.stop - answers.start for answers in tree.slices] == list(sizes)
    assert tree.columns[tree.column("Class8.6")] == "merger"


def test_the_roots_of_galaxy_zoo_2_are_smooth_or_features_and_odd(tree: DecisionTree) -> None:
    assert [question.name for question in tree.questions if question.root] == ["smooth_or_features", "odd"]


def test_real_labels_have_the_columns_of_the_tree(tree: DecisionTree, real_labels) -> None:
    assert tuple(real_labels.column_names) == ("galaxy_id", *tree.source_columns)


@given(decision_trees())
def test_slices_and_columns_agree_in_any_tree(tree: DecisionTree) -> None:
    for number, (question, answers) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        assert tree.columns[answers] == tuple(answer.name for answer in question.answers)
        assert set(tree.question_of[answers]) == {number}
    assert tree.slices[-1].stop == len(tree.columns) == len(tree.answers)


@given(decision_trees())
def test_a_question_is_asked_after_all_that_lead_to_it(tree: DecisionTree) -> None:
    assert sorted(tree.asking_order) == list(range(len(tree.questions)))
    turn = {question: place for place, question in enumerate(tree.asking_order)}
    for question, parents in enumerate(tree.parents):
        assert bool(parents) != tree.questions[question].root
        for parent in parents:
            assert tree.questions[question].name in tree.answers[parent].leads_to
            assert turn[tree.question_of[parent]] < turn[question]


@pytest.mark.parametrize("name", tree_names())
def test_a_root_that_answers_lead_to_is_asked_after_them(name):
    tree = load_tree(name)
    turn = {tree.questions[number].name: place for place, number in enumerate(tree.asking_order)}
    for question in tree.questions:
        for answer in question.answers:
            assert all(turn[question.name] < turn[following] for following in answer.leads_to)


@given(decision_trees())
def test_every_answer_is_found_under_both_its_names(tree: DecisionTree) -> None:
    for place, answer in enumerate(tree.answers):
        assert tree.column(answer.name) == tree.column(answer.column) == place


@given(decision_trees())
def test_a_tree_written_as_toml_reads_back_equal(tree: DecisionTree) -> None:
    import tomli_w

    questions = [
        {
            "name": question.name,
            "text": question.text,
            "root": question.root,
            "multiple": question.multiple,
            "answers": [
                {key: value for key, value in vars(answer).items() if value != ()}
                for answer in question.answers
            ],
        }
        for question in tree.questions
    ]
    assert parse_tree(tomli_w.dumps({"name": tree.name, "questions": questions}), origin="here") == tree


def test_an_unknown_answer_is_answered_with_the_nearest_known(tree: DecisionTree) -> None:
    with pytest.raises(
        UnknownAnswer, match=r'"spiral_arm" is not an answer of galaxy_zoo_2 \(did you mean "spiral'
    ):
        tree.column("spiral_arm")
    with pytest.raises(UnknownAnswer, match=r'"Class8.9" is not an answer.*did you mean "Class8'):
        tree.column("Class8.9")
    with pytest.raises(
        UnknownAnswer, match=r'"oddd" is not a question of galaxy_zoo_2 \(did you mean "odd"\?\)'
    ):
        tree.question("oddd")
    with pytest.raises(UnknownAnswer, match=r"answer of galaxy_zoo_2$"):
        tree.column("xyzzy")


def test_names_that_stand_twice_are_all_named() -> None:
    message = complaint(binary("disk", root=True), binary("disk"))
    for said in ("question 'disk'", "answer 'disk_yes'", "answer 'disk_no'", "source column 'disk.1'"):
        assert f"{said} stands twice" in message


def test_an_edge_to_nowhere_suggests_the_nearest_question() -> None:
    message = complaint(binary("disk", yes="spirals", root=True), binary("spiral", root=True))
    assert "answer 'disk_yes' leads to 'spirals', no question (did you mean \"spiral\"?)" in message


def test_a_cycle_is_drawn() -> None:
    bar, spiral = binary("bar", yes="spiral"), binary("spiral", no="arms")
    message = complaint(binary("disk", yes="bar", root=True), bar, spiral, binary("arms", yes="bar"))
    circle = "bar → spiral → arms → bar → spiral → arms → bar"
    drawn = re.search(r"questions lead back to themselves: (\w+( → \w+){3})$", message)
    assert drawn is not None
    assert drawn[1] in circle


def test_a_question_that_leads_to_itself_is_a_cycle_also_at_a_root() -> None:
    assert "disk → disk" in complaint(binary("disk", yes="disk", root=True))


def test_a_question_that_nobody_reaches_is_named() -> None:
    assert "question 'bar' is never asked and is no root" in complaint(
        binary("disk", root=True), binary("bar")
    )


def test_a_question_below_two_roots_could_be_asked_twice() -> None:
    message = complaint(
        binary("disk", yes="arms", root=True), binary("odd", yes="arms", root=True), binary("arms")
    )
    assert "question 'arms' follows 'disk_yes' and 'odd_yes', and a volunteer may give both" in message


def questions_of_a_volunteer(tree: DecisionTree, choose: Callable[[int], int]) -> list[int]:
    """Walk down the tree, choosing at random; return the questions, each as often as it is asked."""
    asked, waiting = list[int](), [n for n, q in enumerate(tree.questions) if q.root]
    number = {question.name: place for place, question in enumerate(tree.questions)}
    while waiting:
        question = waiting.pop()
        asked.append(question)
        columns = range(*tree.slices[question].indices(len(tree.columns)))
        chosen = [columns[choose(len(columns))]]
        if tree.questions[question].multiple:
            chosen = [column for column in columns if choose(2)]
        for name in (name for column in chosen for name in tree.answers[column].leads_to):
            if not tree.question(name).root:
                waiting.append(number[name])
    return asked


@given(decision_trees(), st.randoms(use_true_random=False))
def test_no_volunteer_is_asked_a_question_twice(tree: DecisionTree, random) -> None:
    for _ in range(30):
        asked = questions_of_a_volunteer(tree, random.randrange)
        assert len(asked) == len(set(asked))


def test_a_question_may_follow_answers_of_several_questions_if_a_volunteer_gives_only_one_of_them() -> None:
    shape = binary("disk", yes="bar merging", no="round", root=True)
    DecisionTree("sketch", (shape, binary("bar"), binary("round", yes="merging"), binary("merging")))
    message = complaint(shape, binary("bar", no="merging"), binary("round"), binary("merging"))
    assert "question 'merging' follows 'disk_yes' and 'bar_no', and a volunteer may give both" in message


def test_what_follows_checkboxes_stands_beside_them() -> None:
    shape = binary("disk", yes="features bar", root=True)
    tree = DecisionTree("sketch", (shape, binary("features", multiple=True), binary("bar")))
    assert [tree.questions[n].exclusive for n in range(3)] == [True, False, True]
    assert parse_tree(tree_text(tree), "text") == tree
    message = complaint(shape, binary("features", yes="bar", multiple=True), binary("bar"))
    assert "answer 'features_yes' leads to 'bar', but several answers may be given to 'features'" in message


def test_a_question_without_answers_and_a_tree_without_questions_are_refused() -> None:
    assert "question 'disk' has no answers" in complaint(replace(binary("disk", root=True), answers=()))
    assert "it has no questions" in complaint()


def test_all_complaints_come_at_once() -> None:
    message = complaint(binary("disk", yes="nowhere", root=True), binary("disk"), binary("bar"))
    assert message.startswith("decision tree 'sketch': ")
    for said in ("stands twice", "leads to 'nowhere'", "question 'bar' is never asked"):
        assert said in message


def test_plain_columns_are_questions_of_one_answer_each() -> None:
    tree = plain_columns(["ring", "how disturbed?"])
    assert tree.columns == tree.source_columns == ("ring", "how disturbed?")
    assert tree.is_plain and tree.parents == ((), ()) and tree.gates == (None, None)
    assert not DecisionTree("mixed", (*tree.questions, binary("disk", root=True))).is_plain
    with pytest.raises(TreeError, match="answer 'ring' stands twice"):
        plain_columns(["ring", "ring"])


def test_the_tree_in_the_instructions_for_own_labels_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "finetuning.md").read_text(encoding="utf-8")
    (written,) = re.findall("```toml\n(.*?)```", text, re.DOTALL)
    assert parse_tree(written, "docs").columns == ("ring", "no_ring", "nuclear", "outer")


@given(decision_trees(fewest=1))
def test_a_tree_is_what_its_text_says(tree: DecisionTree) -> None:
    assert parse_tree(tree_text(tree), "text") == tree


def test_a_folder_carries_its_tree_and_one_without_is_galaxy_zoo_2s(tmp_path, tree: DecisionTree) -> None:
    assert read_tree(tmp_path) == tree
    own = plain_columns(["ring"])
    write_tree(own, tmp_path)
    assert read_tree(tmp_path) == own
    (tmp_path / "tree.toml").write_text("name = 1")
    with pytest.raises(TreeError, match=r"tree\.toml: not a decision tree"):
        read_tree(tmp_path)


def test_the_tree_is_listed_and_loaded_by_name(tree: DecisionTree) -> None:
    assert "galaxy_zoo_2" in tree_names()
    assert load_tree("galaxy_zoo_2") == tree == load_tree()
    assert "Willett" in tree.source


def test_an_unknown_tree_is_answered_with_what_is_known() -> None:
    with pytest.raises(
        TreeError, match=r'no decision tree "galaxy_zoo" \(did you mean "galaxy_zoo_2"\?\); there are'
    ):
        load_tree("galaxy_zoo")


def test_a_tree_of_ones_own_comes_from_a_file(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\n[[questions]]\nname = "round"\ntext = "Round?"\nroot = true\n'
        'answers = [{name = "yes", text = "yes", column = "y"}, {name = "no", text = "no", column = "n"}]\n'
    )
    assert load_tree(str(path)).columns == ("yes", "no")


@pytest.mark.parametrize(
    "text",
    [
        "name = ",
        "name = 'x'",
        "name = 'x'\nquestions = 3",
        "name = 'x'\n[[questions]]\nname = 'a'",
        "name = 'x'\n[[questions]]\nname = 'a'\ntext = 'a?'\nroot = true\nanswers = ['yes', 'no']",
        "name = 'x'\nseason = 3\n[[questions]]\nname = 'a'\ntext = 'a?'\nanswers = []",
    ],
)
def test_a_file_that_is_no_tree_says_so_with_its_name(tmp_path, text: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(TreeError, match=r"broken\.toml: not a decision tree: .*see trees/galaxy_zoo_2.toml"):
        load_tree(str(path))


def test_a_tree_file_that_cannot_be_read_says_so(tmp_path) -> None:
    with pytest.raises(TreeError, match=r"absent\.toml: the decision tree cannot be read"):
        load_tree(str(tmp_path / "absent.toml"))
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(TreeError, match=r"latin\.toml: the decision tree cannot be read"):
        load_tree(str(tmp_path / "latin.toml"))


MASS = Question(
    "mass", "mass?", (Answer("mass", "mass", "mass"),), root=True, number=Number(10.5, 0.5, "dex")
)


def test_a_number_is_a_tree_by_itself() -> None:
    tree = DecisionTree("mine", (MASS,))
    assert parse_tree(tree_text(tree), "here") == tree and tree.is_plain
    assert (tree.number, tree.scale) == (Number(10.5, 0.5, "dex"), 0.5)
    assert (plain_columns(["ring"]).number, plain_columns(["ring"]).scale) == (None, 1)
    joint = np.array([[12.0], [-3.0], [np.nan]])
    assert violations(tree, joint) == [] and not excesses(tree, joint).any()
    with pytest.raises(TreeError, match="'mass' is a number and stands alone"):
        DecisionTree("mine", (*plain_columns(["ring"]).questions, MASS))
    with pytest.raises(TreeError, match="finite, width above 0"):
        DecisionTree("mine", (replace(MASS, number=Number(1.0, 0.0)),))
    with pytest.raises(TreeError, match="names, texts and columns are text"):
        parse_tree(tree_text(tree).replace('"dex"', "3"), "here")


def test_every_column_has_one_wording_that_no_other_has():
    """Texts stand alone where none repeats; else the question comes before."""
    words = load_tree().words
    assert words["arms_tight"] == "tight arms" and words["cannot_tell_arms"] == "can't tell (arms)"
    euclid = load_tree("gz_euclid").words
    assert euclid["bulge_size_none"] == "bulge size: No bulge"
    assert euclid["edge_on_bulge_none"] == "edge on bulge: No bulge"
    assert len(set(euclid.values())) == len(euclid)
