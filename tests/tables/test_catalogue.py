"""Catalogues go out and come back whole in every format, and say what is wrong with them."""

import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from hubblefork.errors import CatalogueError
from hubblefork.tables.catalogue import (
    check_format,
    columns_of,
    fractions,
    fractions_by_answer,
    galaxy_ids,
    id_column,
    ids_among,
    labelled,
    matched,
    metadata_of,
    read_catalogue,
    read_head,
    rows_of,
    with_fractions,
    with_metadata,
    write_catalogue,
    write_pieces,
)
from hubblefork.tables.formats import WRITTEN
from hubblefork.zoo import DecisionTree

FORMATS = WRITTEN
BIG = 2**53 + 1  # the first integer that a float cannot hold
TEXT = st.text(string.ascii_letters + string.digits + "é –'\",;+", min_size=1).filter(
    lambda t: t == t.strip()
)
PLAIN = TEXT.filter(lambda t: t.upper() not in {"NA", "NAN", "NULL", "N/A", "#N/A", "INF"})
IDS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8, unique=True),
    st.lists(PLAIN.map(lambda t: "J" + t), max_size=8, unique=True),
)


def catalogue(ids: list, **columns: object) -> pa.Table:
    kind = pa.string() if ids and isinstance(ids[0], str) else pa.int64()
    return pa.table({"galaxy_id": pa.array(ids, kind), **columns})


def label_table(tree: DecisionTree, ids: list, seed: int = 0) -> pa.Table:
    values = np.random.default_rng(seed).random((len(ids), 37))
    values[::2, 5:9] = np.nan
    return with_metadata(with_fractions(catalogue(ids), values, tree), {"tree": tree.name})


def there_and_back(table: pa.Table, folder: Path, suffix: str) -> pa.Table:
    path = folder / f"catalogue{suffix}"
    write_catalogue(table, path)
    return read_catalogue(path)


@pytest.mark.parametrize("suffix", FORMATS)
@given(ids=IDS, data=st.data())
@settings(max_examples=25)
def test_a_catalogue_survives_every_format(
    tmp_path_factory, suffix: str, ids: list, data: st.DataObject
) -> None:
    def column(values: st.SearchStrategy) -> list:
        return data.draw(st.lists(st.none() | values, min_size=len(ids), max_size=len(ids)))

    table = catalogue(
        ids,
        fraction=pa.array(column(st.floats(-1, 1)), pa.float64()),
        dr7objid=pa.array(column(st.integers(-(2**62), 2**62)), pa.int64()),
        member=pa.array(column(PLAIN.map(lambda t: "m" + t)), pa.string()),
    )
    back = there_and_back(table, tmp_path_factory.mktemp("out"), suffix)
    assert back.column_names == table.column_names
    for name in table.column_names:
        assert back[name].to_pylist() == table[name].to_pylist(), name


@pytest.mark.parametrize("suffix", FORMATS)
def test_fractions_with_nulls_survive_every_format_exactly(
    tmp_path: Path, tree: DecisionTree, suffix: str
) -> None:
    table = label_table(tree, [BIG, 587722981736120347, -1])
    back = there_and_back(table, tmp_path, suffix)
    assert back["galaxy_id"].type == pa.int64()
    assert_array_equal(galaxy_ids(back), [BIG, 587722981736120347, -1])
    assert_array_equal(fractions(back, tree), fractions(table, tree))
    assert back[tree.columns[5]].null_count == table[tree.columns[5]].null_count == 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_integer_is_never_taken_for_one_that_is_there(tmp_path: Path, suffix: str) -> None:
    numbers = [None, 0, 999999, -1, -(2**31), 2**62]
    back = there_and_back(catalogue([1, 2, 3, 4, 5, 6], dr7objid=pa.array(numbers)), tmp_path, suffix)
    assert back["dr7objid"].to_pylist() == numbers


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".vot"])
def test_a_catalogue_without_galaxies_keeps_its_columns_and_kinds(tmp_path, tree, suffix: str) -> None:
    table = label_table(tree, []).append_column("member", pa.array([], pa.string()))
    back = there_and_back(table, tmp_path, suffix)
    assert back.schema.equals(table.schema)
    assert fractions(back, tree).shape == (0, 37)


def test_a_csv_without_galaxies_is_still_a_catalogue(tmp_path: Path, tree: DecisionTree) -> None:
    back = there_and_back(label_table(tree, []), tmp_path, ".csv")
    assert (len(back), back["galaxy_id"].type) == (0, pa.int64())
    assert fractions(back, tree).shape == (0, 37)


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".vot"])
def test_metadata_travels_with_the_table(tmp_path: Path, tree: DecisionTree, suffix: str) -> None:
    entries = {"run": "runs/" + "lab-cnn" * 20, "quantity": "joint_fraction", "seeds": [1, 2], "tree": "x"}
    back = there_and_back(with_metadata(label_table(tree, [1]), entries), tmp_path, suffix)
    written = {"run": entries["run"], "quantity": "joint_fraction", "seeds": "[1, 2]", "tree": "x"}
    assert metadata_of(back) == written


@pytest.mark.parametrize("suffix", [".fits", ".vot"])
@pytest.mark.parametrize("text", ["josé/λ", "two\nlines\tand tabs", '"quoted"', "\x07", "\\x07"])
def test_metadata_that_a_header_cannot_hold_come_back(
    tmp_path: Path, tree: DecisionTree, suffix: str, text: str
) -> None:
    back = there_and_back(with_metadata(label_table(tree, [1]), {"sources": text}), tmp_path, suffix)
    assert metadata_of(back)["sources"] == text


@pytest.mark.parametrize(("suffix", "format"), [(".fits", "fits"), (".vot", "votable")])
def test_astropy_reads_our_files_without_us(
    tmp_path: Path, tree: DecisionTree, suffix: str, format: str
) -> None:
    table = label_table(tree, [BIG, 2, 3]).append_column("member", pa.array(["é.jpg", "b.jpg", "c"]))
    write_catalogue(table, tmp_path / f"a{suffix}")
    found = Table.read(tmp_path / f"a{suffix}", format=format)
    assert found["galaxy_id"].tolist() == [BIG, 2, 3]
    assert list(found["member"]) == ["é.jpg", "b.jpg", "c"]
    column = np.ma.masked_invalid(found[tree.columns[6]])
    assert column.mask.tolist() == [True, False, True]
    assert column[1] == table[tree.columns[6]][1].as_py()


@pytest.mark.parametrize(("suffix", "format"), [(".fits", "fits"), (".vot", "votable")])
def test_we_read_files_that_astropy_made(
    tmp_path: Path, tree: DecisionTree, suffix: str, format: str
) -> None:
    columns = {name: np.linspace(0, 1, 3).astype("f4") for name in tree.source_columns}
    made = Table({"GalaxyID": np.array([BIG, 1, 2]), **columns, "bad": np.array([1, 2, 3], dtype=">i2")})
    made["name"] = np.array([b"M 51", b"NGC 1300", b""])
    made["redshift"] = np.array([0.01, np.nan, 0.02])
    made.write(tmp_path / f"a{suffix}", format=format)
    found = read_catalogue(tmp_path / f"a{suffix}")
    assert galaxy_ids(found).tolist() == [BIG, 1, 2]
    assert fractions(found, tree)[:, 3].tolist() == [0, 0.5, 1]
    assert found["bad"].to_pylist() == [1, 2, 3]
    assert found["name"].to_pylist() == ["M 51", "NGC 1300", None]
    assert found["redshift"].to_pylist() == [0.01, None, 0.02]


def csv(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("cells", "ids"),
    [
        (["9007199254740993", "-9223372036854775808"], [BIG, -(2**63)]),
        (["007", "7"], ["007", "7"]),
        (["99999999999999999999", "1"], ["99999999999999999999", "1"]),
        (["1e5", "2"], ["1e5", "2"]),
        (["2020-01-01", "2020-01-02"], ["2020-01-01", "2020-01-02"]),
        (["1.0", "9007199254740991.0"], [1, 2**53 - 1]),
        (["12.5", "2"], ["12.5", "2"]),
    ],
)
def test_ids_in_a_csv_are_integers_only_where_that_changes_none(
    tmp_path: Path, cells: list, ids: list
) -> None:
    table = read_catalogue(csv(tmp_path, "GalaxyID,a\n" + "".join(f"{cell},0\n" for cell in cells)))
    assert galaxy_ids(table).tolist() == ids


def test_empty_cells_are_null_and_empty_text_is_text(tmp_path: Path) -> None:
    table = read_catalogue(csv(tmp_path, 'galaxy_id,a,b\n1,,""\n2,0.5,\n'))
    assert table["a"].to_pylist() == [None, 0.5]
    assert table["b"].to_pylist() == ["", None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,a\n1,2\n", r'no column "galaxy_id" \(nor "GalaxyID"\)'),
        ("galaxy,a\n1,2\n", r'nor "GalaxyID"\) \(did you mean "galaxy"\?\)'),
        (
            "galaxy_id,a\n1,2\n1,3\n",
            r"galaxy_id 1 stands more than once, in line 2, line 3; each galaxy has one row",
        ),
        ("galaxy_id,a\nx,2\nx,3\n", r"galaxy_id x stands more than once, in line 2, line 3"),
        ("galaxy_id,a\n1,2\n,3\n", r"line 3: no galaxy_id"),
        ("galaxy_id,a,galaxy_id\n1,2,3\n", r'the column "galaxy_id" stands 2 times; keep one'),
        ("galaxy_id,a\n1,2,3\n", r"line 2: 3 cells under 2 columns"),
        ("", r"not a readable table: it is empty"),
    ],
)
def test_a_csv_that_cannot_be_trusted_says_why(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=r"labels\.csv: .*" + message):
        read_catalogue(csv(tmp_path, text))


def test_ids_of_other_kinds_are_refused_not_squeezed(tmp_path: Path) -> None:
    for kind, values in ((pa.bool_(), [True]), (pa.date32(), [1])):
        pa.parquet.write_table(pa.table({"galaxy_id": pa.array(values, kind)}), tmp_path / "a.parquet")
        with pytest.raises(
            CatalogueError, match=r"a\.parquet: galaxy_id holds .*; allowed are 64-bit integers and"
        ):
            read_catalogue(tmp_path / "a.parquet")


def test_ids_beyond_64_bits_are_text(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"galaxy_id": pa.array([2**63], pa.uint64())}), tmp_path / "a.parquet")
    assert galaxy_ids(read_catalogue(tmp_path / "a.parquet")).tolist() == [str(2**63)]


def test_floating_ids_are_integers_while_no_digit_can_be_lost(tmp_path: Path) -> None:
    for ids in ([100008.0, 2.0**53 - 1], pa.array([100008, 5], pa.float32())):
        pa.parquet.write_table(pa.table({"galaxy_id": ids}), tmp_path / "a.parquet")
        read = read_catalogue(tmp_path / "a.parquet")["galaxy_id"]
        assert read.type == pa.int64() and read.to_pylist()[0] == 100008
    for wrong in (2.0**53, 5.87722981742084e17, 1.5, np.inf):
        pa.parquet.write_table(pa.table({"galaxy_id": [1.0, wrong]}), tmp_path / "a.parquet")
        with pytest.raises(CatalogueError, match=r"a\.parquet: row 2: galaxy_id .* digits are lost"):
            read_catalogue(tmp_path / "a.parquet")
    pa.parquet.write_table(pa.table({"galaxy_id": [1.0, np.nan, None]}), tmp_path / "a.parquet")
    with pytest.raises(CatalogueError, match=r"row 2: no galaxy_id \(.*\); so have 2 rows"):
        read_catalogue(tmp_path / "a.parquet")


def test_smaller_integers_and_large_strings_are_ids_too(tmp_path: Path) -> None:
    for kind, values in ((pa.int32(), [1]), (pa.uint8(), [1]), (pa.large_string(), ["a"])):
        pa.parquet.write_table(pa.table({"galaxy_id": pa.array(values, kind)}), tmp_path / "a.parquet")
        read = read_catalogue(tmp_path / "a.parquet")["galaxy_id"]
        assert (read.to_pylist(), read.type) == (values, pa.string() if values == ["a"] else pa.int64())


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\x00\x00", b"\xff\xfe\x00galaxy_id"])
def test_a_file_of_another_kind_is_a_catalogue_error(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(CatalogueError, match=rf"a\{suffix}"):
        read_catalogue(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_a_truncated_file_is_a_catalogue_error(tmp_path: Path, tree: DecisionTree, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_catalogue(label_table(tree, list(range(400))), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(CatalogueError, match=rf"a\{suffix}: "):
        read_catalogue(path)


def test_an_absent_file_and_an_unknown_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"a\.csv: there is no such table"):
        read_catalogue(tmp_path / "a.csv")
    for attempt in (check_format, lambda path: write_catalogue(catalogue([1]), path)):
        with pytest.raises(CatalogueError, match=r'ends in \.parquet, \.csv, \.fits, \.vot, not "\.xlsx"'):
            attempt(tmp_path / "absent" / "a.xlsx")
    assert not (tmp_path / "absent").exists()


def test_suffixes_in_capitals_are_known(tmp_path: Path) -> None:
    for suffix in FORMATS:
        back = there_and_back(catalogue([BIG]), tmp_path, suffix.upper())
        assert galaxy_ids(back).tolist() == [BIG]


def test_what_a_format_cannot_hold_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    write_catalogue(catalogue([1]), tmp_path / "a.fits")
    odd = catalogue([1, 2], seen=pa.array([True, None]))
    with pytest.raises(
        CatalogueError, match=r"a \.fits table cannot hold this catalogue: a truth value is missing"
    ):
        write_catalogue(odd, tmp_path / "a.fits")
    with pytest.raises(CatalogueError, match=r"a \.csv table cannot hold this catalogue"):
        write_catalogue(catalogue([1], votes=pa.array([[1, 2]])), tmp_path / "a.csv")
    assert len(read_catalogue(tmp_path / "a.fits")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from hubblefork.errors import DiskError
from hubblefork.tables.catalogue import write_catalogue
import astropy.table, astropy.io.votable
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
table = pa.table({"galaxy_id": np.arange(5000), "a": np.random.default_rng(0).random(5000)})
for suffix in (".parquet", ".csv", ".fits", ".vot"):
    try:
        write_catalogue(table, Path(sys.argv[1]) / f"a{suffix}")
    except DiskError as error:
        print(error)
"""


def test_a_full_disk_is_a_disk_error_in_every_format(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    for suffix in FORMATS:
        assert f"a{suffix}: could not be written" in run.stdout, run.stderr
    assert list(tmp_path.iterdir()) == []


def test_fractions_are_found_under_our_names_and_under_kaggles(tree: DecisionTree) -> None:
    table = label_table(tree, [1, 2, 3])
    kaggle = table.rename_columns(["galaxy_id", *tree.source_columns])
    assert_array_equal(fractions(kaggle, tree), fractions(table, tree))
    shuffled = table.select(table.column_names[::-1])
    assert_array_equal(fractions(shuffled, tree), fractions(table, tree))


def test_integer_and_empty_columns_are_fractions_too(tree: DecisionTree) -> None:
    table = label_table(tree, [1, 2]).set_column(1, tree.columns[0], pa.array([0, 1]))
    table = table.set_column(2, tree.columns[1], pa.nulls(2))
    assert fractions(table, tree)[:, 0].tolist() == [0, 1]
    assert np.isnan(fractions(table, tree)[:, 1]).all()


def test_all_missing_columns_are_listed_with_a_near_miss(tree: DecisionTree) -> None:
    table = label_table(tree, [1]).drop_columns(["smooth", "merger"]).rename_columns({"ring": "rings"})
    message = (
        r"3 of the 37 columns of galaxy_zoo_2 are missing: smooth, ring \(did you mean \"rings\"\?\), merger$"
    )
    with pytest.raises(CatalogueError, match=message):
        fractions(table, tree)
    with pytest.raises(
        CatalogueError, match=r"1 of the 37 .* missing: merger \(did you mean \"mergers\"\?\)"
    ):
        fractions(label_table(tree, [1]).rename_columns({"merger": "mergers"}), tree)


def test_text_among_fractions_is_named_with_its_galaxy(tmp_path: Path, tree: DecisionTree) -> None:
    cells = ["0.5"] * 37
    rows = [",".join(["GalaxyID", *tree.source_columns]), ",".join(["100008", *cells])]
    cells[30] = "many"
    rows.append(",".join(["100023", *cells]))
    table = read_catalogue(csv(tmp_path, "\n".join(rows)))
    with pytest.raises(
        CatalogueError, match=r"galaxy_id 100023 \(row 2\): Class10\.3 is 'many', which is no number"
    ):
        fractions(table, tree)


def test_a_column_of_another_kind_is_named(tree: DecisionTree) -> None:
    table = label_table(tree, [1]).set_column(1, tree.columns[0], pa.array([[0.5]]))
    with pytest.raises(CatalogueError, match=r"smooth holds list<item: double>, not numbers"):
        fractions(table, tree)


def test_new_fractions_take_the_place_of_old_ones(tree: DecisionTree) -> None:
    table = with_fractions(label_table(tree, [1, 2]), np.full((2, 37), 0.25), tree)
    assert table.column_names == ["galaxy_id", *tree.columns]
    assert (fractions(table, tree) == 0.25).all()
    assert metadata_of(table) == {"tree": "galaxy_zoo_2"}


def test_a_galaxy_is_labelled_when_it_has_any_fraction(tree: DecisionTree) -> None:
    values = np.full((3, 37), np.nan)
    values[0, 36] = 0
    values[2] = 0.5
    assert labelled(with_fractions(catalogue([1, 2, 3]), values, tree), tree).tolist() == [True, False, True]
    assert labelled(label_table(tree, []), tree).shape == (0,)


def test_matched_rows_are_those_in_both_in_the_order_of_the_left() -> None:
    left = catalogue([5, BIG, 1, BIG + 1], a=[50, 0, 10, 99])
    right = catalogue([1, 7, BIG, 5], b=["one", "seven", "big", "five"])
    first, second = matched(left, right)
    assert galaxy_ids(first).tolist() == galaxy_ids(second).tolist() == [5, BIG, 1]
    assert first["a"].to_pylist() == [50, 0, 10]
    assert second["b"].to_pylist() == ["five", "big", "one"]


@given(st.lists(st.integers(), unique=True), st.lists(st.integers(), unique=True))
def test_matching_agrees_with_sets(left: list[int], right: list[int]) -> None:
    common = [i for i in left if i in set(right)]
    tables = (pa.table({"galaxy_id": pa.array([str(i) for i in ids], pa.string())}) for ids in (left, right))
    if common:
        first, second = matched(*tables)
        assert galaxy_ids(first).tolist() == galaxy_ids(second).tolist() == [str(i) for i in common]
    else:
        with pytest.raises(CatalogueError, match="have no galaxy_id in common"):
            matched(*tables)


def test_ids_of_integers_and_of_text_meet_as_they_are_written() -> None:
    whole, texts = catalogue([7, BIG, -1]), catalogue(["x", "007", str(BIG), "-1", "7"])
    left, right = matched(whole, texts)
    assert galaxy_ids(left).tolist() == [7, BIG, -1]
    assert galaxy_ids(right).tolist() == ["7", str(BIG), "-1"]
    assert galaxy_ids(matched(texts, whole)[0]).tolist() == [str(BIG), "-1", "7"]
    with pytest.raises(CatalogueError, match=r"int64 ids.* string\) have no galaxy_id in common"):
        matched(catalogue([7]), catalogue(["007"]))


def test_rows_of_ids() -> None:
    assert rows_of(np.array([3, 1, 9]), np.array([1, 2, 3])).tolist() == [2, 0, -1]
    assert rows_of(np.array(["1", "01", "a"], object), np.array([1, 2, 3])).tolist() == [0, -1, -1]
    assert rows_of(np.array([1, 2]), np.array(["01", "2", "1" * 30])).tolist() == [-1, 1]
    assert rows_of(np.array([]), np.array([1])).tolist() == []
    assert rows_of(np.array([1]), np.array([], dtype=object)).tolist() == [-1]
    with pytest.raises(CatalogueError, match="float64: galaxies are joined by"):
        rows_of(np.array([1.0]), np.array([1]))


@pytest.mark.parametrize(
    ("texts", "kind"),
    [(["7", "-3", "0"], pa.int64()), (["7", "007"], pa.string()), (["9" * 20], pa.string())],
)
def test_a_column_of_ids_is_of_integers_only_where_all_are_written_as_such(texts: list[str], kind) -> None:
    column = id_column(texts)
    assert column.type == kind
    assert [str(value) for value in column.to_pylist()] == texts


def test_metadata_that_are_no_text_are_escaped(tree: DecisionTree) -> None:
    table = with_metadata(
        pa.table({"galaxy_id": [1]}), {"run": "M\udce1laga", "sources": ["M\udce1laga.zip"]}
    )
    assert metadata_of(table) == {"run": "M\\udce1laga", "sources": '["M\\udce1laga.zip"]'}


def test_metadata_is_added_to_not_replaced(tree: DecisionTree) -> None:
    table = with_metadata(
        with_metadata(catalogue([1]), {"run": "a", "tree": "t"}), {"run": "b", "counts": {"n": 1}}
    )
    assert metadata_of(table) == {"run": "b", "tree": "t", "counts": '{"n": 1}'}
    assert metadata_of(catalogue([1])) == {}


@pytest.mark.parametrize("suffix", FORMATS)
def test_only_the_columns_asked_for_are_read(tmp_path: Path, tree: DecisionTree, suffix: str) -> None:
    table = label_table(tree, [3, 1, 2]).rename_columns(["galaxy_id", *tree.source_columns])
    write_catalogue(table.append_column("z", pa.array([0.1, 0.2, 0.3])), tmp_path / f"all{suffix}")
    wanted = [*columns_of(tree, ["merger", "ring"]), "z", "nowhere"]
    found = read_catalogue(tmp_path / f"all{suffix}", wanted)
    assert found.column_names == ["galaxy_id", "Class8.1", "Class8.6", "z"]
    joint = fractions_by_answer(found, tree, ["merger", "ring"])
    whole = fractions(table, tree)
    assert_array_equal(joint["ring"], whole[:, tree.column("ring")])
    assert_array_equal(joint["merger"], whole[:, tree.column("merger")])
    with pytest.raises(CatalogueError, match=r"1 of the 2 columns .* are missing: Class1\.1"):
        fractions_by_answer(found, tree, ["merger", "smooth"])
    head = read_head(tmp_path / f"all{suffix}")
    assert len(head) == 0 and head.column_names == read_catalogue(tmp_path / f"all{suffix}").column_names
    assert metadata_of(head) == metadata_of(read_catalogue(tmp_path / f"all{suffix}"))


def test_ids_are_found_as_they_are_written() -> None:
    whole, texts = catalogue([7, BIG, -1]), catalogue(["7", "007", str(BIG), "x"])
    asked = np.array(["7", "007", str(BIG), "x", "-1", "1" * 30], dtype=object)
    assert ids_among(whole, asked).tolist() == [True, False, True, False, True, False]
    assert ids_among(texts, asked).tolist() == [True, True, True, True, False, False]
    assert ids_among(texts, np.array([7, 8, BIG])).tolist() == [True, False, True]
    assert ids_among(whole, np.array([BIG - 1, BIG])).tolist() == [False, True]
    assert ids_among(whole, np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_networks_fractions_stay_in_single_precision(
    tmp_path: Path, tree: DecisionTree, suffix: str
) -> None:
    values = np.random.default_rng(0).random((3, 37)).astype(np.float32)
    back = there_and_back(with_fractions(catalogue([1, 2, 3]), values, tree), tmp_path, suffix)
    assert_array_equal(fractions(back, tree).astype(np.float32), values)
    if suffix == ".csv":
        assert str(values[0, 0]) in (tmp_path / "catalogue.csv").read_text()
    else:
        assert back.schema.field("merger").type == pa.float32()


def test_real_labels_come_through_every_format(tmp_path: Path, tree: DecisionTree, kaggle: Path) -> None:
    import zipfile

    with zipfile.ZipFile(kaggle / "training_solutions_rev1.zip") as archive:
        archive.extract("training_solutions_rev1.csv", tmp_path)
    table = read_catalogue(tmp_path / "training_solutions_rev1.csv")
    labels = fractions(table, tree)
    for suffix in FORMATS:
        back = there_and_back(table, tmp_path, suffix)
        assert_array_equal(galaxy_ids(back), galaxy_ids(table))
        assert_array_equal(fractions(back, tree), labels)


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".vot"])
def test_a_catalogue_finds_its_run_after_a_move(tmp_path: Path, suffix: str, monkeypatch) -> None:
    for name in ("runs/a", "out", "new"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    path = Path("out") / f"a{suffix}"
    write_catalogue(with_metadata(catalogue([1]), {"run": "runs/a"}), path)
    monkeypatch.chdir("out")
    assert Path(metadata_of(read_catalogue(Path(path.name)))["run"]).resolve() == tmp_path / "runs/a"
    path = tmp_path / "out" / path.name
    path.rename(tmp_path / "new" / path.name)
    found = read_catalogue(tmp_path / "new" / path.name)
    assert metadata_of(found) == {"run": str(tmp_path / "runs/a")}
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").rename(tmp_path / "elsewhere" / "runs")
    (tmp_path / "new").rename(tmp_path / "elsewhere" / "new")
    found = read_head(tmp_path / "elsewhere" / "new" / path.name)
    assert metadata_of(found) == {"run": str(tmp_path / "elsewhere" / "runs/a")}


@pytest.mark.parametrize("suffix", [".parquet", ".fits"])
def test_the_images_of_every_piece_are_found_after_a_move(tmp_path: Path, suffix: str) -> None:
    there, moved = tmp_path / "there", tmp_path / "moved"
    there.mkdir()
    archives = [there / name for name in ("a.zip", "b.zip")]
    pieces = [pa.table({"galaxy_id": [n], "source": [str(path)]}) for n, path in enumerate(archives)]
    write_pieces(iter(pieces), there / f"catalogue{suffix}")
    there.rename(moved)
    (moved / "a.zip").touch(), (moved / "b.zip").touch()
    found = read_catalogue(moved / f"catalogue{suffix}").column("source").to_pylist()
    assert found == [str(moved / "a.zip"), str(moved / "b.zip")]


def test_metadata_and_text_that_are_no_utf8_do_not_stop_a_catalogue(tmp_path: Path) -> None:
    table = catalogue([1]).replace_schema_metadata({b"run": b"a\xe9"})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    assert metadata_of(read_catalogue(tmp_path / "a.parquet")) == {"run": "a\\xe9"}
    texts = pa.array([b"a\xe9"], pa.binary()).view(pa.string())
    pa.parquet.write_table(pa.table({"galaxy_id": texts}), tmp_path / "a.parquet")
    with pytest.raises(CatalogueError, match=r"a\.parquet: not a readable .*UTF8"):
        read_catalogue(tmp_path / "a.parquet")


def test_integers_are_read_without_a_detour_through_text(tmp_path, monkeypatch):
    """A hundred million ids are sorted, not spelled."""
    pa.parquet.write_table(pa.table({"galaxy_id": [3, 1, 2]}), tmp_path / "c.parquet")
    monkeypatch.setattr("hubblefork.tables.catalogue.ids_of", lambda _: pytest.fail("it spells them"))
    assert read_catalogue(tmp_path / "c.parquet").column("galaxy_id").to_pylist() == [3, 1, 2]
