"""Classes and numbers in a table of labels: what is learned of them, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from hubblefork.data.labels import read_labels, tree_of_classes, tree_of_columns, tree_of_number
from hubblefork.errors import CatalogueError
from hubblefork.zoo import Number, number_column, parse_tree, tree_text


def table(tmp_path, lines, header="galaxy_id,kind"):
    path = tmp_path / "labels.csv"
    path.write_text("\n".join([header, *lines, ""]))
    return path


def refusal(function, *arguments, **options):
    with pytest.raises(CatalogueError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def test_texts_are_classes_in_their_order(tmp_path):
    path = table(tmp_path, ["1,spiral", "2, smooth ", "3,", "4,spiral", "5,na", "6,bar", "7,spirale"])
    tree = tree_of_classes(path, "Kind")
    assert tree.columns == ("bar", "smooth", "spiral", "spirale") and not tree.is_plain
    labels = read_labels([path], tree)
    assert (
        np.isnan(labels.joint[labels.row_of["3"]]).all() and np.isnan(labels.joint[labels.row_of["5"]]).all()
    )
    assert labels.joint[labels.row_of["2"]].tolist() == [0, 1, 0, 0]
    assert labels.joint[labels.row_of["4"]].tolist() == [0, 0, 1, 0]


def test_integers_are_classes_however_they_are_written(tmp_path):
    texts = table(tmp_path, ["1,10", "2,2", "3,-9", "4,2"])
    floats = tmp_path / "floats.parquet"
    columns = {"galaxy_id": [1, 2, 3, 4], "kind": [10.0, 2.0, None, 2.0]}
    pa.parquet.write_table(pa.table(columns), floats)
    for path in (texts, floats):
        tree = tree_of_classes(path, "kind", missing=[-9])
        assert tree.columns == ("kind_2", "kind_10") and tree.source_columns == ("2", "10")
        joint = read_labels([path], tree, missing=[-9]).joint
        assert np.array_equal(joint, [[0, 1], [1, 0], [np.nan] * 2, [1, 0]], equal_nan=True)


def test_what_are_no_classes_is_said(tmp_path):
    assert 'no column "kin" (did you mean "kind"' in refusal(tree_of_classes, table(tmp_path, ["1,a"]), "kin")
    assert "kind has 1 classes; from 2 to 100" in refusal(tree_of_classes, table(tmp_path, ["1,a"]), "kind")
    many = table(tmp_path, [f"{number},{number}" for number in range(101)])
    assert "kind has 101 classes" in refusal(tree_of_classes, many, "kind")
    said = refusal(tree_of_classes, table(tmp_path, ["1,2", "2,0.5"]), "kind")
    assert "kind is 0.5: classes are texts or integers; --number kind" in said
    said = refusal(tree_of_classes, table(tmp_path, ["1,Ring", "2,ring"]), "kind")
    assert 'the classes "Ring" and "ring": one in two spellings' in said
    said = refusal(tree_of_classes, table(tmp_path, ["1,source", "2,star"]), "kind")
    assert "source: a catalogue has columns of these names" in said


def test_an_answer_that_the_tree_does_not_have_is_refused_by_its_row(tmp_path):
    path = table(tmp_path, ["1,spiral", "2,smooth"])
    tree = tree_of_classes(path, "kind")
    labels = read_labels([table(tmp_path, ["1,spiral", "2,spirel", "3,smooth"])], tree)
    (reject,) = labels.rejects
    assert (reject.galaxy_id, reject.reason) == ("2", "no answer of the tree")
    assert reject.value == 'line 3: kind is "spirel" (did you mean "spiral"?)'
    assert [*labels.row_of] == ["1", "3"]


def test_answers_named_as_other_columns_of_a_catalogue_are_refused(tmp_path):
    path = table(tmp_path, ["1,0,1", "2,1,0"], "galaxy_id,ring,ring_low")
    with pytest.raises(CatalogueError, match="ring_low: a catalogue has columns of these names"):
        tree_of_columns(path, [])
    assert tree_of_columns(path, ["ring_low"]).columns == ("ring_low",)


NESTED = """
name = "rings"
[[questions]]
name = "ring"
text = ""
root = true
answers = [
    { name = "yes", text = "", column = "yes", leads_to = "size" },
    { name = "no", text = "", column = "no" },
]
[[questions]]
name = "size"
text = ""
answers = [{ name = "small", text = "", column = "small" }, { name = "large", text = "", column = "large" }]
"""


def test_one_answer_to_each_question_becomes_joint_fractions(tmp_path):
    path = table(tmp_path, ["1,yes,large", "2,no,", "3,yes,", "4,,", "5,no,large"], "galaxy_id,ring,size")
    joint = read_labels([path], parse_tree(NESTED, "here")).joint
    nothing = np.nan
    expected = [[1, 0, 0, 1], [0, 1, 0, 0], [1, 0, nothing, nothing], [nothing] * 4, [0, 1, 0, 0]]
    assert np.array_equal(joint, expected, equal_nan=True)


def test_a_number_has_the_mean_and_the_spread_of_its_column(tmp_path):
    path = table(tmp_path, ["1,9.5", "2,", "3,10.5", "4,-99", "5,13"], "galaxy_id,logmass")
    tree = tree_of_number(path, "logmass", "dex", missing=[-99])
    assert tree == number_column("logmass", Number(11.0, np.std([9.5, 10.5, 13]), "dex"))
    assert parse_tree(tree_text(tree), "here") == tree
    labels = read_labels([path], tree, missing=[-99])
    assert np.array_equal(labels.joint[:, 0], [9.5, np.nan, 10.5, np.nan, 13], equal_nan=True)
    assert labels.rejects == []


def test_what_is_no_number_is_said(tmp_path):
    def said(*cells, unit=""):
        lines = [f"{row},{cell}" for row, cell in enumerate(cells)]
        return refusal(tree_of_number, table(tmp_path, lines, "galaxy_id,mass"), "mass", unit)

    assert "mass is 'big' for galaxy_id 1, which is no finite number" in said(1, "big")
    assert "mass is inf for galaxy_id 0" in said("inf", 1)
    assert "mass says the same of every galaxy" in said(3, 3, "")
    assert "mass is -99; no other value is near it: if it stands for a missing" in said(9, 10, -99, 11)
    assert "subtract 59000 from it" in said(59000.0001, 58999.9999)
    assert '--unit "solar" is no unit that astropy knows' in said(1, 2, unit="solar")
    assert tree_of_number(
        table(tmp_path, ["1,-1", "2,0.5", "3,2"], "galaxy_id,mass"), "mass", "km s-1"
    ).number
    rows = table(tmp_path, ["1,1", "2,inf", "3,2"], "galaxy_id,mass")
    labels = read_labels([rows], number_column("mass", Number(0.0, 1.0)))
    assert [(reject.galaxy_id, reject.reason) for reject in labels.rejects] == [("2", "an infinite number")]
