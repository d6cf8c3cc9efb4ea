import json

import numpy as np
import pyarrow as pa
import pytest

from hubblefork.data.folders import RunFolder
from hubblefork.io import digest_of
from hubblefork.pages.contents import Contents
from hubblefork.pages.page import Missing
from hubblefork.tables.catalogue import read_catalogue, with_metadata, write_catalogue


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("rmse",), {"value": 0.1}, "rmse.interval_95: Field required"),
        (("rmse", "value"), "0.1", "rmse.value: Input should be a valid number, not '0.1'"),
        (("rmse", "value"), float("nan"), "NaN is no number"),
        (("rmse", "interval_95"), [0.1], "rmse.interval_95: List should have at least 2 items"),
        (("galaxies",), -1, "galaxies: Input should be greater than or equal to 0"),
        (("part",), "train", "part: Input should be 'validation' or 'test'"),
        (("answers",), {}, "answers: no "),
        (("answers", "smooth", "rmse"), 7, "answers.smooth.rmse"),
        (("questions", "colour"), {"rmse": None}, 'questions: "colour" is not in the tree'),
        (("baselines", "mean_vote"), None, "baselines.mean_vote"),
        (("intervals", "coverages"), [], "coverages: List should have at least 1 item"),
        (("intervals", "tolerance"), [1], "tolerance: Input should be a valid number"),
    ],
)
def test_an_evaluation_with_a_wrong_entry_is_missing_with_the_entrys_name(copied, keys, value, words):
    run, _ = copied
    evaluation = json.loads((run / "evaluation.json").read_text())
    place = evaluation
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    contents = Contents(RunFolder(run))
    with pytest.raises(Missing, match=r"evaluation\.json cannot be read") as missing:
        _ = contents.evaluation
    assert words in missing.value.what
    assert "\n" not in missing.value.what
    assert missing.value.remedy == f"hubblefork evaluate {run}"


def test_errors_of_other_weights_are_missing(copied):
    run, _ = copied
    file = run / "evaluation.json"
    (run / "weights.safetensors").write_bytes(b"newer weights")
    for weights, kept in ((digest_of(run / "weights.safetensors"), True), ("0" * 64, False)):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"weights": weights}))
        contents = Contents(RunFolder(run))
        assert (contents.optional("evaluation") is not None) == kept
    with pytest.raises(Missing, match="evaluated with other weights") as missing:
        _ = contents.evaluation
    assert missing.value.remedy == f"hubblefork evaluate {run}"
    predictions = read_catalogue(run / "predictions" / "test.parquet")
    write_catalogue(with_metadata(predictions, {"weights": "0" * 64}), run / "predictions" / "test.parquet")
    with pytest.raises(Missing, match="evaluated with other weights"):
        _ = Contents(RunFolder(run)).judged


def test_ids_of_text_meet_the_integers_of_the_catalogue(made, tmp_path):
    table = read_catalogue(made.predictions)
    texts = table.set_column(0, "galaxy_id", table.column("galaxy_id").cast(pa.string()))
    write_catalogue(texts, tmp_path / "texts.parquet")
    paths = made.predictions, tmp_path / "texts.parquet"
    same, given = (Contents(RunFolder(made.run), path).given for path in paths)
    assert (given.rows >= 0).all()
    np.testing.assert_array_equal(given.rows, same.rows)
