"""What the lab study makes of the rows of a training, and of the images of a catalogue."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from hubblefork.errors import ImageError
from hubblefork.network.recipe import load_recipe
from hubblefork.studies.lab.networks import Network, cutouts, gap, image_bytes


def network(*settings, name="lab-cnn", validation=(0.3, 0.1, 0.2)):
    rows = [
        {
            "epoch": epoch,
            "step": 200 * (epoch + 1),
            "train_rmse": 0.2,
            "validation_rmse": rmse,
            "train_agreement": 0.5,
            "validation_agreement": rmse + 0.4,
            "seconds": 10.0 * (epoch + 1),
        }
        for epoch, rmse in enumerate(validation)
    ]
    return Network(name, Path("run"), load_recipe(name, settings), {"finished": True}, rows, {})


def test_table_6_averages_squared_errors_over_all_epochs():
    losses = network().losses()
    assert losses["validation_loss"] == pytest.approx((0.09 + 0.01 + 0.04) / 3)
    assert losses["train_loss"] == pytest.approx(0.04)
    assert losses["validation_agreement"] == pytest.approx(0.6)


def test_the_gap_is_of_rmses():
    assert gap(network().losses(0)) == pytest.approx(0.3 - 0.2)
    assert gap(network().losses(1)) == pytest.approx(0.1 - 0.2)


def test_the_epoch_kept_is_that_with_the_best_watched_value():
    assert network().best_epoch == 1
    assert network("monitor=validation_agreement").best_epoch == 0
    assert network().seconds == pytest.approx(20)
    assert network().steps == 600


@pytest.mark.parametrize(
    ("settings", "short"),
    [((), False), (("epochs=3",), True), (("steps_per_epoch=100",), True), (("steps_per_epoch=0",), False)],
)
def test_a_training_with_fewer_batches_than_its_recipe_is_short(settings, short):
    assert network(*settings).shortened == short


@pytest.fixture
def sky(tmp_path):
    """Three images of two sizes in two folders, of one colour each."""
    rows = []
    for galaxy_id, (folder, side, grey) in enumerate([("a", 40, 10), ("b", 30, 200), ("a", 50, 90)]):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(np.full((side, side, 3), grey, np.uint8)).save(tmp_path / folder / f"{galaxy_id}.png")
        rows.append(
            {"source": str(tmp_path / folder), "member": f"{galaxy_id}.png", "width": side, "height": side}
        )
    return pa.Table.from_pylist(rows)


def test_cutouts_come_in_the_order_asked_for(sky):
    shown = cutouts(sky, [2, 1, 0], 20)
    assert [image.shape for image in shown] == [(20, 20, 3)] * 3
    assert [int(image.mean().round()) for image in shown] == [90, 200, 10]


def test_a_cutout_smaller_than_asked_for_is_not_enlarged(sky):
    assert cutouts(sky, [1], 212)[0].shape == (30, 30, 3)


def test_missing_images_are_an_error(sky, tmp_path):
    (tmp_path / "a" / "0.png").unlink()
    with pytest.raises(ImageError, match=r"0\.png"):
        cutouts(sky, [0])


def test_bytes_are_counted_decoded_and_as_files(sky, tmp_path):
    decoded, files = image_bytes(sky)
    assert decoded == 3 * (40**2 + 30**2 + 50**2)
    assert files == sum(path.stat().st_size for path in tmp_path.rglob("*.png"))
