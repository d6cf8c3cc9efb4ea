"""A time limit: no epoch that would end after it, the time before an interruption counted in."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from hubblefork.data.folders import RunFolder
from hubblefork.network import callbacks
from hubblefork.network.callbacks import Deadline
from hubblefork.network.training import train


def run_epochs(deadline, monkeypatch, lengths):
    """Return how many epochs of the given lengths, in seconds, are begun."""
    clock = [0.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: clock[0])
    trainer = SimpleNamespace(should_stop=False, strategy=SimpleNamespace(broadcast=lambda value: value))
    begun = 0
    for length in lengths:
        if trainer.should_stop:
            break
        begun += 1
        deadline.on_train_epoch_start(trainer, None)
        clock[0] += length
        deadline.on_validation_end(trainer, None)
        clock[0] += 1000  # what is between epochs does not count
    return begun


def test_the_epoch_that_would_be_too_late_is_not_begun(quick, monkeypatch):
    limit = replace(quick, max_minutes=1)
    assert run_epochs(Deadline(limit), monkeypatch, [20] * 9) == 3
    assert run_epochs(Deadline(limit), monkeypatch, [20.1] * 9) == 2
    assert run_epochs(Deadline(limit), monkeypatch, [90] * 9) == 1
    assert run_epochs(Deadline(quick), monkeypatch, [90] * 9) == 9


def test_the_time_before_an_interruption_counts(quick, monkeypatch):
    first, second = Deadline(replace(quick, max_minutes=1)), Deadline(replace(quick, max_minutes=1))
    run_epochs(first, monkeypatch, [10, 10])
    second.load_state_dict(first.state_dict())
    assert run_epochs(second, monkeypatch, [10] * 9) == 4


def test_a_training_in_no_time_has_one_epoch_and_is_finished(data, quick, tmp_path):
    run = train(
        data,
        replace(quick, max_minutes=1e-6, steps_per_epoch=1, batch_size=8),
        tmp_path / "run",
        device="cpu",
    )
    assert RunFolder(run).notes()["epochs"] == 1
    assert RunFolder(run).is_finished()


@pytest.mark.parametrize("minutes", [-1.0, float("nan")])
def test_no_such_time(quick, minutes):
    from hubblefork.errors import RecipeError

    with pytest.raises(RecipeError, match="max_minutes = "):
        replace(quick, max_minutes=minutes)
