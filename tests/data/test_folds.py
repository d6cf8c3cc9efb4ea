"""Folds: each galaxy that may be judged in exactly one, whatever else the split says."""

import hashlib
from dataclasses import replace

import pytest

from hubblefork.data.split import Fold, Split, read_split, write_split
from hubblefork.errors import CatalogueError

IDS = list(range(1000, 3000))


def folds(split, count=5, salt="folds"):
    return [replace(split, fold=Fold(salt, count, number)) for number in range(count)]


def test_a_fold_is_a_hash():
    expected = int(hashlib.sha256(b"named:1237").hexdigest()[:8], 16) % 5
    assert [Fold("named", 5, number).holds(1237) for number in range(5)].index(True) == expected


def test_every_galaxy_is_judged_once():
    judged = [split.assign(IDS) == "test" for split in folds(Split())]
    assert (sum(judged) == 1).all()
    assert all(340 < fold.sum() < 460 for fold in judged)


def test_the_test_galaxies_stay_out_altogether():
    split = Split(salt="a", test=30, validation=15)
    test = split.assign(IDS) == "test"
    for fold in folds(split):
        parts = fold.assign(IDS)
        assert (parts[test] == "left out").all()
        assert not (parts[~test] == "left out").any()


def test_only_those_who_may_be_judged_are():
    allowed = frozenset(map(str, IDS[::3]))
    for fold in folds(Split(salt="a", test=30, validation=15, judge_on=allowed)):
        parts = fold.assign(IDS)
        for galaxy_id, part in zip(IDS, parts, strict=True):
            assert str(galaxy_id) in allowed or part == "train"


def test_who_chooses_stays_but_for_the_fold():
    split = Split(salt="a", test=10, validation=20)
    before = split.assign(IDS)
    for fold in folds(split):
        parts = fold.assign(IDS)
        rest = parts != "test"
        assert (parts[rest & (before != "test")] == before[rest & (before != "test")]).all()
        assert (parts == "validation").sum() > 200


def test_a_fold_survives_writing(tmp_path):
    for split in (Split(fold=Fold("b", 3, 2)), Split("c", 10, 20, frozenset({"1"}), Fold("b", 3, 0))):
        write_split(split, tmp_path)
        assert read_split(tmp_path) == split


@pytest.mark.parametrize(("count", "number"), [(1, 0), (5, 5), (5, -1)])
def test_no_such_fold(count, number):
    with pytest.raises(CatalogueError, match=f"fold {number} of {count}"):
        Fold("folds", count, number)
