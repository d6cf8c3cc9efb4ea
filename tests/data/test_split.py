"""The split is a function of the id alone: reproducible anywhere, unmoved by company."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from hubblefork.api.skies import set_split, unknown_ids
from hubblefork.data.split import SPLITS, Fold, Split, read_ids, read_split, write_split
from hubblefork.errors import CatalogueError
from hubblefork.tables.catalogue import write_catalogue
from hubblefork.zoo import plain_columns, write_tree

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=1)
IDS = st.one_of(st.integers(-(2**63), 2**63 - 1), NAMES)
SHARED = {"salt": "kaggle-split-1", "test": 30, "validation": 15}


@pytest.fixture(scope="session")
def unselected(kaggle: Path) -> frozenset[str]:
    return read_ids(kaggle / "unselected_ids.txt")


def test_the_shared_split_of_the_real_galaxies(unselected: frozenset[str]) -> None:
    parts = Counter(Split(**SHARED).assign(unselected).tolist())
    assert parts == {"test": 933, "validation": 472, "train": 3169 - 933 - 472}


def test_galaxies_outside_the_list_only_train(unselected: frozenset[str], kaggle: Path) -> None:
    import zipfile

    with zipfile.ZipFile(kaggle / "images_training_rev1.zip") as archive:
        ids = [int(Path(name).stem) for name in archive.namelist() if name.endswith(".jpg")]
    parts = Counter(Split(**SHARED, judge_on=unselected).assign(ids).tolist())
    assert parts == {"test": 933, "validation": 472, "train": 7452 - 933 - 472}


@given(IDS)
def test_the_rule_is_the_one_that_is_documented(galaxy_id: int | str) -> None:
    digits = hashlib.sha256(f"kaggle-split-1:{galaxy_id}".encode()).hexdigest()[:8]
    bucket = int(digits, 16) % 100
    expected = "test" if bucket < 30 else "validation" if bucket < 45 else "train"
    assert Split(**SHARED).of(galaxy_id) == expected


@given(st.lists(st.integers(), unique=True), st.lists(st.integers(), unique=True))
def test_adding_galaxies_moves_none(before: list[int], more: list[int]) -> None:
    split = Split(**SHARED)
    parts = dict(zip(before, split.assign(before), strict=True))
    later = [*more, *before[::-1]]
    moved = dict(zip(later, split.assign(later), strict=True))
    assert all(moved[galaxy_id] == part for galaxy_id, part in parts.items())


@given(st.integers(-(2**63), 2**63 - 1))
def test_an_id_is_the_same_galaxy_as_number_text_or_numpy(galaxy_id: int) -> None:
    split = Split(**SHARED)
    assert split.of(galaxy_id) == split.of(str(galaxy_id)) == split.of(np.int64(galaxy_id))


def test_judging_on_a_list_moves_nobody_within_it() -> None:
    ids = list(range(2000))
    listed = frozenset(str(i) for i in ids[::3])
    free, bound = Split(**SHARED), Split(**SHARED, judge_on=listed)
    for galaxy_id in ids:
        assert bound.of(galaxy_id) == (free.of(galaxy_id) if str(galaxy_id) in listed else "train")


@pytest.mark.parametrize(("test", "validation"), [(0, 20), (30, 15), (1, 1), (0, 0), (50, 50), (100, 0)])
def test_the_shares_are_those_asked_for(test: int, validation: int) -> None:
    ids = range(20_000)
    parts = Counter(Split("shares", test=test, validation=validation).assign(ids).tolist())
    for part, percent in (("test", test), ("validation", validation), ("train", 100 - test - validation)):
        assert binomtest(parts[part], len(ids), percent / 100).pvalue > 1e-3


def test_another_salt_is_another_split() -> None:
    first, second = (Split(salt, test=50, validation=0).assign(range(2000)) for salt in ("one", "two"))
    assert 0.4 < (first == second).mean() < 0.6


def test_nothing_said_is_the_lab_reports_80_to_20() -> None:
    parts = Counter(Split().assign(range(10_000)).tolist())
    assert parts["test"] == 0
    assert parts["validation"] == pytest.approx(2000, abs=150)
    assert set(SPLITS) == {"train", "validation", "test"}


def test_no_galaxies_make_an_empty_split() -> None:
    assert Split().assign([]).shape == (0,)


@pytest.mark.parametrize(
    ("test", "validation"), [(-1, 20), (0, -5), (60, 41), (101, 0), (12.5, 20), (True, 20)]
)
def test_shares_that_make_no_sense_are_refused(test, validation) -> None:
    with pytest.raises(
        CatalogueError, match=rf"{test}% test and {validation}% validation: each is a whole number"
    ):
        Split("s", test=test, validation=validation)


@given(st.text(), st.integers(0, 50), st.integers(0, 50), st.none() | st.frozensets(IDS.map(str), min_size=1))
def test_a_split_survives_its_folder(tmp_path_factory, salt, test, validation, judge_on) -> None:
    split = Split(salt, test, validation, judge_on)
    folder = tmp_path_factory.mktemp("data")
    write_split(split, folder)
    assert read_split(folder) == split


@pytest.mark.parametrize("salt", ['quo"te', "back\\slash", "new\nline", "tab\t", "σ"])
def test_any_salt_survives(tmp_path: Path, salt: str) -> None:
    write_split(Split(salt), tmp_path)
    assert read_split(tmp_path).salt == salt


def test_a_folder_without_a_split_has_the_default(tmp_path: Path) -> None:
    assert read_split(tmp_path) == Split()


def test_a_new_split_without_a_list_forgets_the_old_list(tmp_path: Path) -> None:
    write_split(Split(judge_on=frozenset(["1", "2"])), tmp_path)
    write_split(Split(), tmp_path)
    assert read_split(tmp_path).judge_on is None


@pytest.mark.parametrize(
    "text",
    [
        "salt =",
        'salt = "a"\ntest = 10\nvalidation = 20',
        "test = 10\nvalidation = 20\njudge_on = false",
        'salt = "a"\ntest = "ten"\nvalidation = 20\njudge_on = false',
        "\x00",
    ],
)
def test_a_file_that_is_no_split_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.toml").write_text(text)
    with pytest.raises(CatalogueError, match=r"split\.toml.*remove it for the default|whole number"):
        read_split(tmp_path)


def test_a_list_that_is_gone_is_an_error_not_everybody(tmp_path: Path) -> None:
    write_split(Split(judge_on=frozenset(["1"])), tmp_path)
    (tmp_path / "judge_on.txt").unlink()
    with pytest.raises(CatalogueError, match=r"judge_on\.txt"):
        read_split(tmp_path)


def test_ids_are_read_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("100008\r\n\n  9007199254740993 \nNGC 1300\n")
    assert read_ids(path) == {"100008", "9007199254740993", "NGC 1300"}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\n \n", "it is empty"), (b"\xff\xfe1", "truncated"), (b"galaxy_id\n", "is empty")],
)
def test_a_list_without_ids_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(CatalogueError, match=rf"ids\.txt: .*{message}"):
        read_ids(tmp_path / "ids.txt")


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_smaller_share_of_the_training_galaxies_is_part_of_a_larger_one(one: float, other: float) -> None:
    whole, ids = Split(**SHARED), range(400)
    small, large = (replace(whole, train_share=share).assign(ids) for share in sorted((one, other)))
    parts = whole.assign(ids)
    assert set(np.flatnonzero(small == "train")) <= set(np.flatnonzero(large == "train"))
    assert set(np.flatnonzero(large == "train")) <= set(np.flatnonzero(parts == "train"))
    for part in ("validation", "test"):
        assert ((large == part) == (parts == part)).all()


@pytest.mark.parametrize("share", [0.125, 0.5])
def test_a_share_is_the_share_asked_for_and_owes_nothing_to_the_list(share: float) -> None:
    ids = range(20_000)
    listed = frozenset(str(i) for i in ids[::2])
    whole = Split("shares", test=20, validation=20, judge_on=listed)
    parts, fewer = whole.assign(ids), replace(whole, train_share=share).assign(ids)
    for chosen in (parts == "train", (parts == "train") & (np.arange(len(ids)) % 2 == 0)):
        kept = np.count_nonzero(fewer[chosen] == "train")
        assert binomtest(kept, np.count_nonzero(chosen), share).pvalue > 1e-3
    assert set(fewer[parts == "train"]) == {"train", "left out"}


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan")])
def test_no_such_share(share: float) -> None:
    with pytest.raises(CatalogueError, match="of the training galaxies: above 0, at most 1"):
        Split(train_share=share)


def test_a_share_survives_its_folder(tmp_path: Path) -> None:
    split = Split("s", test=10, train_share=0.125)
    write_split(split, tmp_path)
    assert read_split(tmp_path) == split
    write_split(Split(), tmp_path)
    assert "train_share" not in (tmp_path / "split.toml").read_text()


# Folds


MANY = list(range(1000, 3000))


def folds(split, count=5, salt="folds"):
    return [replace(split, fold=Fold(salt, count, number)) for number in range(count)]


def test_a_fold_is_a_hash():
    expected = int(hashlib.sha256(b"named:1237").hexdigest()[:8], 16) % 5
    assert [Fold("named", 5, number).holds(1237) for number in range(5)].index(True) == expected


def test_every_galaxy_is_judged_once():
    judged = [split.assign(MANY) == "test" for split in folds(Split())]
    assert (sum(judged) == 1).all()
    assert all(340 < fold.sum() < 460 for fold in judged)


def test_the_test_galaxies_stay_out_altogether():
    split = Split(salt="a", test=30, validation=15)
    test = split.assign(MANY) == "test"
    for fold in folds(split):
        parts = fold.assign(MANY)
        assert (parts[test] == "left out").all()
        assert not (parts[~test] == "left out").any()


def test_only_those_who_may_be_judged_are():
    allowed = frozenset(map(str, MANY[::3]))
    for fold in folds(Split(salt="a", test=30, validation=15, judge_on=allowed)):
        parts = fold.assign(MANY)
        for galaxy_id, part in zip(MANY, parts, strict=True):
            assert str(galaxy_id) in allowed or part == "train"


def test_who_chooses_stays_but_for_the_fold():
    split = Split(salt="a", test=10, validation=20)
    before = split.assign(MANY)
    for fold in folds(split):
        parts = fold.assign(MANY)
        rest = parts != "test"
        assert (parts[rest & (before != "test")] == before[rest & (before != "test")]).all()
        assert (parts == "validation").sum() > 200


def test_only_listed_galaxies_train_and_choose_and_the_same_ones_judge():
    split, listed = Split("a", 30, 20), frozenset(map(str, MANY[::3]))
    before, parts = split.assign(MANY), replace(split, only=listed).assign(MANY)
    inside = np.isin([str(name) for name in MANY], list(listed))
    assert (parts[inside] == before[inside]).all()
    assert set(parts[~inside]) == {"test", "left out"}
    assert ((parts == "test") == (before == "test")).all()


def test_a_fold_survives_writing(tmp_path):
    for split in (
        Split("d", 10, 20, frozenset({"1", "2"}), only=frozenset({"2"})),
        Split(fold=Fold("b", 3, 2)),
        Split("c", 10, 20, frozenset({"1"}), Fold("b", 3, 0)),
    ):
        write_split(split, tmp_path)
        assert read_split(tmp_path) == split


@pytest.mark.parametrize(("count", "number"), [(1, 0), (5, 5), (5, -1)])
def test_no_such_fold(count, number):
    with pytest.raises(CatalogueError, match=f"fold {number} of {count}"):
        Fold("folds", count, number)


def test_a_list_that_names_nobody_is_an_error_and_unknown_ids_are_told(tmp_path: Path) -> None:
    tree = plain_columns(["ring"])
    write_tree(tree, tmp_path)
    write_catalogue(pa.table({"galaxy_id": [7, 8], "ring": [0.5, 1.0]}), tmp_path / "catalogue.parquet")
    with pytest.raises(CatalogueError, match=r'none of the 2 ids .* written as "007", .* catalogue as "7"'):
        set_split(tmp_path, Split(judge_on=frozenset(["007", "9"])))
    assert not (tmp_path / "split.toml").exists()
    split = Split(test=100, validation=0, judge_on=frozenset(["7", "9"]))
    assert set_split(tmp_path, split) == {"train": 1, "validation": 0, "test": 1}
    assert unknown_ids(tmp_path, split) == ["9"]
