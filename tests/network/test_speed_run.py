"""The speed-run stops at its target, times what it says, goes on where it stopped, and writes its table."""

import pytest

import record
from hubblefork.errors import RecipeError

TINY = ["steps_per_epoch=2", "batch_size=8", "epochs=2", "crop=64", "stamp_size=32", "input_size=32"]
WORDS = [word for setting in TINY for word in ("--set", setting)]


@pytest.fixture
def run(data, tmp_path):
    def speed_run(*words):
        record.main(
            [str(data), "--recipe", "lab-cnn", "--device", "cpu", "--record", str(tmp_path), *WORDS, *words]
        )
        return record.read_times(tmp_path), (tmp_path / "README.md").read_text()

    return speed_run


def test_a_loose_target_is_reached_by_the_first_epoch(run, tmp_path):
    times, table = run("--target", "0.99", "--seeds", "2")
    assert [(one.seed, one.epochs, one.galaxies) for one in times] == [(0, 1, 16), (1, 1, 16)]
    for one in times:
        assert one.seconds > one.training > 0
        assert one.validation_rmse <= one.target == 0.99
    assert "| ≤ 0.99 |" in table and "| 2 of 2 |" in table
    assert (tmp_path / "recipe-lab-cnn.toml").exists()
    assert len((tmp_path / "metrics-lab-cnn-stamps-cpu-seed1.csv").read_text().splitlines()) == 2


def test_a_target_out_of_reach_is_not_reached(run):
    times, table = run("--target", "0.001", "--seeds", "1")
    assert [(one.seconds, one.epochs) for one in times] == [(None, 2)]
    assert "| 0 of 1 | – |" in table


def test_from_images_counts_the_stamps_and_leaves_the_data_alone(run, data):
    before = sorted(data.rglob("*"))
    times, _ = run("--target", "0.99", "--seeds", "1", "--from", "images")
    assert times[0].seconds > times[0].stamps + times[0].training > times[0].training
    assert sorted(data.rglob("*")) == before


def test_what_is_there_is_not_run_again_and_more_is_added(run, monkeypatch):
    first, _ = run("--target", "0.99", "--seeds", "1")
    trained = []
    timed = record._timed
    monkeypatch.setattr(record, "_timed", lambda *those: trained.append(those[0].seed) or timed(*those))
    both, table = run("--target", "0.99", "--seeds", "2")
    assert (trained, both[0]) == ([1], first[0])
    assert "| 2 of 2 |" in table


def test_a_setting_for_nobody_is_refused(run):
    with pytest.raises(RecipeError, match='trains no "lab-cmm"'):
        run("--set", "lab-cmm:epochs=1")
