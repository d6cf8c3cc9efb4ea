import pytest

from hubblefork.pages.records import Epoch, Notes, check_evaluation, checked

EPOCH = {
    **{f"{part}_{what}": 0.1 for part in ("train", "validation") for what in ("rmse", "agreement")},
    **{"epoch": 0.0, "learning_rate": 0.001, "seconds": 1.0, "galaxies_per_second": 7.0},
}


def test_galaxies_without_a_highest_answer_have_no_agreement():
    assert checked(Epoch, {**EPOCH, "train_agreement": float("nan"), "step": "not shown"}).train_rmse == 0.1
    with pytest.raises(ValueError, match="validation_rmse: Input should be a finite number, not 'nan'"):
        checked(Epoch, {**EPOCH, "validation_rmse": float("nan")})


def test_the_row_of_a_list_is_named_and_a_long_value_is_cut():
    with pytest.raises(ValueError, match=r"^1\.seconds: Input should be a valid number, not 'x{60}'$"):
        checked(list[Epoch], [EPOCH, {**EPOCH, "seconds": "x" * 1000}])


def test_notes_may_lack_every_entry():
    notes = checked(Notes, {})
    assert (notes.finished, notes.recipe, notes.best_epoch, notes.versions) == (False, "–", None, {})


@pytest.mark.parametrize("value", [None, [], "x", 1, {}])
def test_what_is_no_evaluation_is_refused_in_a_line(tree, value):
    with pytest.raises(ValueError, match=r"^(the whole|part): [^\n]*$"):
        check_evaluation(value, tree)
