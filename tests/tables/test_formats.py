"""The one reader of tables: what people have is read, or one line says what is wrong."""

import bz2
import gzip
import json
import lzma
import random
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
import tomli_w
from astropy.io import votable
from astropy.table import Table

from hubblefork.data.folders import RunFolder
from hubblefork.data.labels import read_labels, tree_of_columns
from hubblefork.data.split import read_ids, read_split
from hubblefork.errors import CatalogueError, HubbleforkError
from hubblefork.tables.catalogue import fractions, galaxy_ids, read_catalogue, write_catalogue
from hubblefork.tables.formats import read_rows
from hubblefork.zoo import plain_columns, read_tree

TREE = plain_columns(["ring", "bar"])
PLAIN = "galaxy_id,ring,bar\n007,0.5,\n8,NA,1\n"


def check(path):
    """Both readers see two galaxies, 007 and 8, the first without a bar and the second without a ring."""
    expected = [[0.5, np.nan], [np.nan, 1]]
    table = read_catalogue(path)
    assert galaxy_ids(table).tolist() == ["007", "8"]
    np.testing.assert_array_equal(fractions(table, TREE), expected)
    labels = read_labels([path], TREE)
    assert [*labels.row_of] == ["007", "8"] and labels.rejects == []
    np.testing.assert_array_equal(labels.joint, expected)
    with pytest.raises(CatalogueError, match=r"ring says the same of every galaxy.*; bar says the same"):
        tree_of_columns(path, ["ring", "bar"])


TEXTS = {
    "semicolon": "galaxy_id;ring;bar\n007;0.5;\n8;NA;1\n",
    "decimal comma": "galaxy_id;ring;bar\n007;0,5;\n8;NA;1,0\n",
    "quoted decimal comma": 'galaxy_id,ring,bar\n007,"0,5",\n8,NA,"1,0"\n',
    "tab": "galaxy_id\tring\tbar\n007\t0.5\t\n8\tNA\t1\n",
    "bar": "galaxy_id|ring|bar\n007|0.5|\n8|NA|1\n",
    "spaces between": "galaxy_id  ring bar\n007  0.5  NA\n 8 NA 1\n",
    "commented header": "# made by hand\n# galaxy_id ring bar\n007 0.5 nan\n8 nan 1\n",
    "comments": "# a table, of mine\ngalaxy_id,ring,bar\n007,0.5,\n# the next, one\n\n8,NA,1\n#end",
    "Excel says its separator": "sep=;\ngalaxy_id;ring;bar\n007;0,5;\n8;NA;1\n",
    "names": 'Galaxy_ID, Ring ,"BAR"\n007,0.5,\n8,NA,1\n',
    "old Mac": PLAIN.replace("\n", "\r"),
    "Windows": PLAIN.replace("\n", "\r\n"),
    "no end of the last line": PLAIN.rstrip("\n"),
    "a column twice that nobody needs": "galaxy_id,ring,bar,note,note\n007,0.5,,a,b\n8,NA,1,c,d\n",
    "a cell of two lines": 'galaxy_id,note,ring,bar\n007,"a\nb",0.5,\n8,,NA,1\n',
    "Latin-1 further down": "galaxy_id,ring,bar,note\n007,0.5,,\n8,NA,1,Núñez\n",
    "names of files": "galaxy_id,ring,bar\nimages/007.jpg,0.5,\nimages/8.PNG,NA,1\n",
    "words": "galaxy_id,ring,bar\n007, 0.5 , - \n8,N/A,True\n",
    "other words": 'galaxy_id,ring,bar\n007,"0.5","null"\n8,None,"TRUE"\n',
    "rounding": "galaxy_id,ring,bar\n007,0.5,\n8,,1.0000001\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_read_as_people_have_it(tmp_path, name):
    encoding = "latin-1" if name.startswith("Latin") else "utf-8"
    (tmp_path / "a.csv").write_text(TEXTS[name], encoding=encoding, newline="")
    check(tmp_path / "a.csv")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings_are_found_out(tmp_path, encoding):
    text = PLAIN.replace("bar\n", "bar,név\n").replace("\n8,", ",é\n8,").rstrip("\n") + ",à\n"
    (tmp_path / "a.txt").write_text(text, encoding=encoding)
    check(tmp_path / "a.txt")
    assert read_rows(tmp_path / "a.txt").table.column("név").to_pylist() == ["é", "à"]


def test_compressed_text_is_read(tmp_path):
    raw = PLAIN.encode()
    packed = {"gz": gzip.compress(raw), "bz2": bz2.compress(raw), "xz": lzma.compress(raw)}
    packed["zst"] = pa.compress(raw, "zstd", asbytes=True)
    for suffix, content in packed.items():
        (tmp_path / f"a.csv.{suffix}").write_bytes(content)
        check(tmp_path / f"a.csv.{suffix}")
    (tmp_path / "b.csv").write_bytes(packed["gz"])
    check(tmp_path / "b.csv")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/a.csv", PLAIN)
        archive.writestr("__MACOSX/a/._a.csv", b"\0")
    check(tmp_path / "a.zip")


def test_other_formats_are_read_with_columns_that_nobody_needs(tmp_path):
    table = Table({"GALAXY_ID": ["007", "8"], "RING": [0.5, np.nan], "bar": [np.nan, 1.0]})
    table["flux"] = np.ones((2, 5))
    for name, form in (("a.fits", "fits"), ("a.fit", "fits"), ("a.ecsv", "ascii.ecsv"), ("a.xml", "votable")):
        table.write(tmp_path / name, format=form)
        check(tmp_path / name)
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    check(tmp_path / "a.fits.gz")
    arrow = pa.table(
        {
            "galaxy_id": pa.array(["007", "8"]).dictionary_encode(),
            "ring ": pa.array(["0.5", None]).dictionary_encode(),
            "bar": pa.array([None, 1], pa.int8()),
            "flux": [[1.0], [2.0]],
            "bytes": [b"\xff", b""],
        }
    )
    pa.parquet.write_table(arrow, tmp_path / "a.parquet")
    pa.feather.write_feather(arrow, tmp_path / "a.feather")
    check(tmp_path / "a.parquet")
    check(tmp_path / "a.feather")
    texts = {"galaxy_id": ["007", "8"], "ring": ["0.5", None], "bar": [None, "1"]}
    views = {name: pa.array(cells, pa.string_view()) for name, cells in texts.items()}
    pa.parquet.write_table(pa.table(views), tmp_path / "polars.parquet")
    check(tmp_path / "polars.parquet")


@pytest.mark.filterwarnings("error")
def test_a_name_that_is_no_id_is_written_to_a_votable_without_a_warning(tmp_path):
    write_catalogue(pa.table({"galaxy_id": [7], "anneau é": [0.5]}), tmp_path / "a.vot")
    assert read_catalogue(tmp_path / "a.vot")["anneau é"].to_pylist() == [0.5]


@pytest.mark.filterwarnings("ignore::astropy.io.votable.exceptions.VOWarning")
def test_columns_of_a_votable_go_by_name_and_then_by_id(tmp_path):
    table = Table({"galaxy_id": [1, 2], "c d": [0.5, 0.25]})
    document = votable.from_table(table)
    document.to_xml(str(tmp_path / "a.vot"))
    text = (tmp_path / "a.vot").read_text()
    assert read_catalogue(tmp_path / "a.vot").column_names == ["galaxy_id", "c d"]
    (tmp_path / "b.vot").write_text(text.replace('ID="galaxy_id"', 'ID="col1"'))
    assert galaxy_ids(read_catalogue(tmp_path / "b.vot")).tolist() == [1, 2]
    (tmp_path / "c.vot").write_text(text.replace('name="galaxy_id"', 'name="Name of it"'))
    assert galaxy_ids(read_catalogue(tmp_path / "c.vot")).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("galaxy_id,ring,bar\n1,0.5,-99\n", r"bar is -99; .* say so: --missing -99"),
        ("galaxy_id,ring,bar\n1,50,10\n2,75.5,\n", r"ring is 50; .*divide by 100 what is in per cent"),
        ("galaxy_id,ring,bar\n1,0.5,9999\n", r"--missing 9999"),
        ("galaxy_id,ring_weight,bar_weight\n1,0.5,1\n", r'"ring_weight" for ring.*without "_weight"'),
        ("galaxy_id,ring,bar,ring\n1,0,1,0\n", r'the column "ring" stands 2 times; keep one'),
        ("galaxy_id,Ring,RING,bar\n1,0,1,0\n", r"1 of the 2 columns of plain_columns are missing: ring"),
        ("id,ring,bar\n1,0,1\n", r'there is no column "galaxy_id"'),
        ('galaxy_id,ring,bar\n1,0,"1\n2,0,1\n', r"line 3: a quote .*is not closed"),
        ('galaxy_id,note,ring,bar\n1,"a,0,1\n2,b,0,1\n3,c",0,1\n', r"line 4: a quote .*is not closed"),
        ("<html>not found</html>", r"this is a web page; save the table as \.csv"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    for read in (
        lambda path: read_labels([path], TREE),
        lambda path: fractions(read_catalogue(path), TREE),
    ):
        with pytest.raises(CatalogueError, match=message) as caught:
            read(tmp_path / "a.csv")
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_names_of_published_tables_are_not_listed_one_by_one(tmp_path, tree):
    names = [f"t01_{name}_debiased" for name in tree.columns]
    (tmp_path / "a.csv").write_text(",".join(["galaxy_id", *names]) + "\n")
    with pytest.raises(
        CatalogueError, match=r"its names end in _debiased .*`hubblefork fetch gz2`"
    ) as caught:
        read_labels([tmp_path / "a.csv"], tree)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits", ".vot"])
@pytest.mark.parametrize("value", [-1.0, -9.0, -99.0, -999.0, 9999.0, 1.5, 37.0, np.inf, -0.01])
def test_what_is_no_fraction_is_refused_or_missing_where_that_is_said(tmp_path, suffix, value):
    path = tmp_path / f"a{suffix}"
    write_catalogue(pa.table({"galaxy_id": [5, 6], "ring": [0.5, value], "bar": [0.25, 0.5]}), path)
    with pytest.raises(CatalogueError, match=rf"galaxy_id 6 \(row 2\): ring is {value:g}; a fraction lies"):
        fractions(read_catalogue(path), TREE)
    table = read_catalogue(path, missing=[value])
    np.testing.assert_array_equal(fractions(table, TREE), [[0.5, 0.25], [np.nan, 0.5]])
    labels = read_labels([path], TREE, missing=[value])
    np.testing.assert_array_equal(labels.joint, [[0.5, 0.25], [np.nan, 0.5]])


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits", ".vot"])
def test_rounding_is_no_fault_in_any_format(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_catalogue(pa.table({"galaxy_id": [5], "ring": [1.0000001], "bar": [-1e-9]}), path)
    assert fractions(read_catalogue(path), TREE).tolist() == [[1, 0]]
    assert read_labels([path], TREE).joint.tolist() == [[1, 0]]


def test_lines_are_those_of_the_file(tmp_path):
    text = '# one\ngalaxy_id,ring,bar,note\n\n1,0,1,\n#two\n2,x,1,"a\nb"\n3,0\n4,0,1,\n'
    (tmp_path / "a.csv").write_text(text)
    labels = read_labels([tmp_path / "a.csv"], TREE)
    assert [labels.origins[labels.row_of[name]].line for name in ("1", "4")] == [4, 9]
    assert [reject.value for reject in labels.rejects] == [
        'line 7: ring is "x"',
        "line 8: 2 cells under 4 columns",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "7\n8\n",
        "\ufeff7\n8\n",
        "galaxy_id\n7\n8\n",
        '"GalaxyID"\n"7"\n"8"\n',
        "7.jpg\n8.jpg\n",
        "7.0\n8.0\n",
        "ring;galaxy_id\n0,5;7\n0,5;8\n",
        "# mine\n7\n\n8",
    ],
)
def test_lists_of_ids_are_read_as_people_have_them(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    assert read_ids(tmp_path / "a.txt") == {"7", "8"}


def test_ids_of_a_list_are_text_unless_they_are_integers(tmp_path):
    (tmp_path / "a.txt").write_text("007\n7\n0x10\n1e5\n")
    assert read_ids(tmp_path / "a.txt") == {"007", "7", "0x10", "1e5"}
    (tmp_path / "a.txt").write_text("5.87722981742084e+17\n7\n")
    with pytest.raises(CatalogueError, match=r"its first line: .*digits are lost"):
        read_ids(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("7\n5.87722981742084e+17\n")
    with pytest.raises(CatalogueError, match=r"line 2: .*digits are lost"):
        read_ids(tmp_path / "a.txt")


def test_control_characters_never_make_a_votable_that_cannot_be_read(tmp_path):
    table = pa.table({"galaxy_id": ["a", "b"], "note": ["x", "\x07"]})
    with pytest.raises(CatalogueError, match=r"note is '\\x07' in row 2, with a control character"):
        write_catalogue(table, tmp_path / "a.vot")
    assert list(tmp_path.iterdir()) == []
    table = table.slice(0, 1).replace_schema_metadata({"run": "a\x07b"})
    for suffix in (".vot", ".fits"):
        write_catalogue(table, tmp_path / f"a{suffix}")
        assert read_catalogue(tmp_path / f"a{suffix}").schema.metadata == {b"run": b"a\x07b"}


# Files broken at random


PIECES = [b"\0", b'"', b"\xff\xfe", b"\n", b"9" * 5000, b"[" * 3000, b"nan", b"#", b","]
SUFFIXES = [".csv", ".vot", ".parquet", ".fits", ".csv.gz", ".ecsv", ".feather", ".zip"]


def mutated(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 1:
            data[at:at] = rng.choice(
                [b"\0", b'"', b"\xff\xfe", b"\n", b"9" * 5000, b"[" * 3000, b"nan", b"#", b","]
            )
        elif kind == 2:
            data[at : at + 1] = bytes([rng.randrange(256)])
        else:
            data[at:at] = data[rng.randrange(len(data) + 1) :][: rng.randint(1, 60)]
    return bytes(data)


@pytest.mark.parametrize(
    "suffix", [".csv", ".vot", ".parquet", ".fits", ".csv.gz", ".ecsv", ".feather", ".zip"]
)
def test_broken_tables_end_in_our_errors(tmp_path, suffix):
    rng, path = random.Random(suffix), tmp_path / f"a{suffix}"
    table = pa.table({"galaxy_id": ["007", "8"], "ring": [0.5, None], "bar": [0.0, 1.0]})
    source = tmp_path / "source"
    if suffix in (".csv", ".vot", ".parquet", ".fits"):
        write_catalogue(table, path)
    elif suffix == ".csv.gz":
        path.write_bytes(gzip.compress(PLAIN.encode()))
    elif suffix == ".feather":
        pa.feather.write_feather(table, path)
    elif suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.csv", PLAIN)
    else:
        Table({"galaxy_id": [7, 8], "ring": [0.5, 0.25], "bar": [0.0, 1.0]}).write(
            source, format="ascii.ecsv"
        )
        path.write_bytes(source.read_bytes())
    whole = path.read_bytes()
    for _ in range(40):
        path.write_bytes(mutated(whole, rng))
        for read in (
            lambda: fractions(read_catalogue(path), TREE),
            lambda: read_labels([path], TREE),
            lambda: tree_of_columns(path),
            lambda: read_ids(path),
        ):
            try:
                read()
            except HubbleforkError as error:
                assert str(path) in str(error) or "galaxy_id" in str(error) or "columns" in str(error)


@pytest.mark.parametrize("name", ["run.toml", "split.toml", "tree.toml", "evaluation.json", "metrics.csv"])
def test_broken_files_of_folders_end_in_our_errors(tmp_path, name):
    rng, folder = random.Random(name), Path(tmp_path)
    texts = {
        "run.toml": tomli_w.dumps(
            {"data": "../data", "finished": True, "best": {"loss": 1.5}, "folder": "/a"}
        ),
        "split.toml": tomli_w.dumps({"salt": "a", "test": 20, "validation": 20, "judge_on": False}),
        "tree.toml": 'name = "a"\n[[questions]]\nname = "q"\ntext = "?"\nroot = true\n'
        'answers = [{name = "r", text = "r", column = "r"}]\n',
        "evaluation.json": json.dumps({"part": "test", "rmse": {"value": 0.1}}),
        "metrics.csv": "epoch,loss\n0,0.5\n1,0.25\n",
    }
    run = RunFolder(folder)
    readers = {
        "run.toml": lambda: (run.data, run.is_finished()),
        "split.toml": lambda: read_split(folder),
        "tree.toml": lambda: read_tree(folder),
        "evaluation.json": lambda: run.evaluation()["rmse"],
        "metrics.csv": lambda: [row["loss"] for row in run.metrics()],
    }
    for _ in range(300):
        (folder / name).write_bytes(mutated(texts[name].encode(), rng))
        try:
            readers[name]()
        except HubbleforkError as error:
            assert name in str(error)
