"""Views of stamps: where pixels go, against Pillow and against geometry."""

import numpy as np
import pytest
import torch
from PIL import Image

from hubblefork.data.folders import VIEWING
from hubblefork.data.trained import even_moves, views_of
from hubblefork.network.augment import (
    Augmentation,
    central_views,
    even_views,
    moved_views,
    random_light,
    random_moves,
    relit,
    still_views,
)


def torch_moves(views, stamp, size, first_angle=0.0):
    return torch.from_numpy(even_moves(views, stamp, size, first_angle)).float()


def sky(size=96):
    """A smooth stamp without symmetry: three blobs of different colour."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    blobs = [(0.1, -0.05, 0.08), (-0.12, 0.1, 0.06), (0.05, 0.15, 0.1)]
    bands = [255 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * s**2)) for a, b, s in blobs]
    return np.stack(bands, axis=-1).astype(np.uint8)


def moved(stamps, size=64, seed=0, **by):
    moves = random_moves(
        len(stamps), stamps.shape[1], size, Augmentation(**by), torch.Generator().manual_seed(seed)
    )
    return moved_views(stamps, size, moves)


def stamps(count=4):
    return torch.from_numpy(np.stack([sky()] * count))


def test_the_centre_is_cut_exactly():
    stamp = torch.arange(96 * 96 * 3).reshape(1, 96, 96, 3).remainder(251).to(torch.uint8)
    views = central_views(stamp, 64)
    assert torch.equal((views * 255).round().to(torch.uint8), stamp[:, 16:80, 16:80].permute(0, 3, 1, 2))
    assert views.is_contiguous(memory_format=torch.channels_last)


def test_no_augmentation_is_the_central_view():
    torch.testing.assert_close(moved(stamps()), central_views(stamps(), 64), atol=1e-5, rtol=0)


def test_rotation_agrees_with_pillow():
    """The angle is drawn; Pillow at the best-fitting angle must agree, and at no angle it must not."""
    view = moved(stamps(1), rotation=180.0)[0]
    rotated = (torch.from_numpy(_pillow_rotated(angle)) for angle in np.arange(-180, 180, 1.0))
    errors = [float((view - other).abs().mean()) for other in rotated]
    assert min(errors) < 0.002
    assert np.median(errors) > 0.02


def _pillow_rotated(angle):
    rotated = Image.fromarray(sky()).rotate(angle, resample=Image.Resampling.BILINEAR)
    return np.asarray(rotated)[16:80, 16:80].transpose(2, 0, 1).astype(np.float32) / 255


def test_rotation_leaves_no_black_corners():
    bright = torch.full((64, 96, 96, 3), 200, dtype=torch.uint8)
    views = moved(bright, rotation=180.0, zoom=1.3, shift=3.0)
    assert views.min() > 199 / 255


@pytest.mark.parametrize(("flip", "share"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
def test_flips_come_with_their_probability(flip, share):
    views = moved(stamps(2000), flip=flip)
    mirrored = central_views(stamps(1), 64).flip(3)
    flipped = (views - mirrored).abs().mean(dim=(1, 2, 3)) < 1e-3
    assert float(flipped.float().mean()) == pytest.approx(share, abs=0.03)


def test_shift_moves_the_centroid_by_at_most_that_many_pixels():
    views = moved(stamps(500), shift=5.0)
    grid = torch.arange(64.0)
    weight = views[:, 0].sum(dim=(1, 2))
    centres = (views[:, 0].sum(dim=1) * grid).sum(dim=1) / weight
    still = central_views(stamps(1), 64)[:, 0]
    offset = centres - (still.sum(dim=1) * grid).sum() / still.sum()
    assert 4.0 < float(offset.abs().max()) < 5.1
    assert abs(float(offset.mean())) < 0.5


def test_zoom_is_symmetric_in_the_logarithm():
    views = moved(stamps(2000), zoom=1.5)
    areas = torch.log(views[:, 1].sum(dim=(1, 2)) / central_views(stamps(1), 64)[0, 1].sum()) / 2
    assert float(areas.mean()) == pytest.approx(0, abs=0.02)
    assert float(areas.abs().max()) == pytest.approx(np.log(1.5), abs=0.03)


def test_the_generator_decides():
    assert torch.equal(moved(stamps(), rotation=180.0, seed=3), moved(stamps(), rotation=180.0, seed=3))
    assert not torch.equal(moved(stamps(), rotation=180.0, seed=3), moved(stamps(), rotation=180.0, seed=4))


@pytest.mark.parametrize("transform", [{"rotation": 180.0}, {"zoom": 1.3}, {"shift": 5.0}])
def test_each_transform_comes_with_its_chance(transform):
    (name,) = transform
    by = Augmentation(**transform, **{f"{name}_probability": 0.3})
    moves = random_moves(4000, 96, 64, by, torch.Generator().manual_seed(0))
    unmoved = torch.tensor([[64 / 96, 0, 0], [0, 64 / 96, 0]])
    moved = ((moves - unmoved).abs() > 1e-6).flatten(1).any(dim=1).float().mean()
    assert float(moved) == pytest.approx(0.3, abs=0.03)


def test_chances_are_drawn_apart():
    by = Augmentation(rotation=180, zoom=1.3, rotation_probability=0.5, zoom_probability=0.5)
    moves = random_moves(4000, 96, 64, by, torch.Generator().manual_seed(0))
    scale = (moves[:, 0, 0] ** 2 + moves[:, 1, 0] ** 2).sqrt()
    zoomed, turned = (scale - 64 / 96).abs() > 1e-5, moves[:, 1, 0].abs() > 1e-6
    assert float((zoomed & turned).float().mean()) == pytest.approx(0.25, abs=0.03)


def test_a_chance_of_one_is_what_it_was_before_there_were_chances():
    one, other = (
        moved(stamps(3), rotation=90.0, zoom=1.2, **more) for more in ({}, {"zoom_probability": 1.0})
    )
    assert torch.equal(one, other)


def test_even_moves_are_turns_around_the_circle_and_their_mirror_images():
    pixels = stamps(1)
    seen = [moved_views(pixels, pixels.shape[1], move[None]) for move in torch_moves(8, 1, 1)]
    whole = central_views(pixels, pixels.shape[1])
    turned = [torch.rot90(whole, turn, (2, 3)) for turn in range(4)]
    expected = turned + [view.flip(3) for view in turned]
    nearest = {min(range(8), key=lambda k: float((view - expected[k]).abs().max())) for view in seen}
    assert torch.allclose(seen[0], whole, atol=1e-5)
    assert nearest == set(range(8))
    assert all(min(float((view - one).abs().max()) for one in expected) < 1e-4 for view in seen)


def test_one_even_move_is_the_central_view():
    pixels = stamps(2)
    assert torch.allclose(
        moved_views(pixels, 64, torch_moves(1, 96, 64).expand(2, 2, 3)), central_views(pixels, 64), atol=1e-5
    )


def test_views_have_channels_last_strides_which_convolutions_are_faster_with():
    assert central_views(stamps(), 64).is_contiguous(memory_format=torch.channels_last)
    assert moved(stamps(), rotation=180).is_contiguous(memory_format=torch.channels_last)


def test_a_galaxy_is_judged_as_smooth_as_it_was_trained_on():
    """A resampled stamp of noise is smoother than the stamp: one that was always turned, never otherwise."""
    noise = torch.randint(
        0, 256, (4, 96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )

    def roughness(views):
        return float(views.diff(dim=3).square().mean())

    trained = roughness(moved(noise, rotation=180.0))
    turned, still = (still_views(noise, 64, Augmentation(rotation=angle)) for angle in (180.0, 0.0))
    assert roughness(turned) == pytest.approx(trained, rel=0.1)
    assert roughness(still) > 1.5 * trained
    assert torch.equal(still, central_views(noise, 64))
    assert torch.equal(
        still_views(noise, 64, Augmentation(rotation=180.0, rotation_probability=0.5)),
        central_views(noise, 64),
    )


def test_views_to_judge_by_begin_with_the_first_angle():
    by = Augmentation(rotation=180.0)
    views = list(even_views(stamps(1), 64, 16, by))
    moves = torch_moves(16, 96, 64, by.first_angle)
    assert len(views) == 16
    for view, move in zip(views, moves, strict=True):
        assert torch.equal(view, moved_views(stamps(1), 64, move[None]))
    angles = [float(torch.rad2deg(torch.atan2(move[1, 0], move[1, 1]))) % 360 for move in moves[::2]]
    assert angles == pytest.approx([11.25 + 45 * k for k in range(8)], abs=1e-3)
    assert torch.equal(next(iter(views)), still_views(stamps(1), 64, by))


def test_a_change_of_the_views_raises_their_number():
    """Whoever changes what is seen at prediction raises VIEWING, and writes the new numbers here."""
    first = Augmentation(rotation=180.0, zoom=1.3).first_angle
    seen = torch.cat([torch_moves(views, 96, 64, first)[:, 0, :2] for views in (1, 4)])
    one = x, y = 0.65386, -0.13006
    assert VIEWING == "2"
    assert torch.allclose(seen, torch.tensor([one, one, [-x, y], [-x, -y], [x, -y]]), atol=1e-5)


@pytest.mark.parametrize("rotation", [0.0, 180.0])
@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("side", [96, 95, 66])
def test_views_without_pytorch_are_the_same(side, views, rotation):
    by = Augmentation(rotation=rotation)
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    ours = views_of(pixels, 64, views, by.first_angle).reshape(2, views, 3, 64, 64)
    theirs = torch.stack(list(even_views(torch.from_numpy(pixels), 64, views, by)), dim=1).numpy()
    assert np.abs(ours - theirs).max() < 1e-4


def lit(views, seed=0, **by):
    by = Augmentation(**{"light_probability": 1.0} | by)
    drawn = random_light(
        len(views), views.shape[2], by, torch.Generator().manual_seed(seed), bands=views.shape[1]
    )
    return relit(views, by, *drawn)


def grey_views(count=400, size=24, level=0.5):
    return torch.full((count, 3, size, size), level)


ALL_LIGHT = {"blur": 2.0, "brightness": 1.5, "colour": 1.2, "grey": 0.3, "noise": 0.05}


def test_light_changes_with_its_probability_and_else_not_at_all():
    views = central_views(stamps(400), 24)
    changed = (lit(views, light_probability=0.5, **ALL_LIGHT) - views).abs().amax(dim=(1, 2, 3))
    assert 0.4 < (changed > 1e-3).float().mean() < 0.6
    assert (changed < 1e-5).float().mean() > 0.4
    torch.testing.assert_close(lit(views), views)


def test_brightness_is_one_factor_for_all_bands_and_colour_one_for_each():
    factors = lit(grey_views(), brightness=1.5)[:, :, 0, 0] / 0.5
    assert torch.equal(factors.amin(dim=1), factors.amax(dim=1))
    assert 1 / 1.5 <= factors.min() < 0.7 and 1.45 < factors.max() <= 1.5
    assert abs(factors.log().mean()) < 0.03
    factors = lit(grey_views(), colour=1.2)[:, :, 0, 0] / 0.5
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.2
    assert 1 / 1.2 <= factors.min() < 0.85 and 1.18 < factors.max() <= 1.2


def test_a_point_is_spread_by_a_gaussian_of_at_most_the_blur():
    point = torch.zeros(400, 3, 41, 41)
    point[:, :, 20, 20] = 1
    spread, along = lit(point, blur=3.0).double(), torch.arange(-20, 21)
    torch.testing.assert_close(spread.sum(dim=(2, 3)), torch.ones(400, 3).double(), rtol=0, atol=1e-5)
    for other in (2, 3):
        sigma = ((spread.sum(dim=other) * along**2).sum(dim=2)).sqrt()
        assert torch.equal(sigma.amax(dim=1) - sigma.amin(dim=1) < 1e-4, torch.ones(400).bool())
        assert sigma.max() <= 3 and sigma.max() > 2.8 and abs(sigma.mean() - 1.5) < 0.15


def test_grey_is_the_mean_of_the_bands_for_its_share():
    views = central_views(stamps(400), 24)
    shown = lit(views, grey=0.3)
    grey = (shown.amax(dim=1) - shown.amin(dim=1)).amax(dim=(1, 2)) < 1e-6
    assert 0.22 < grey.float().mean() < 0.38
    torch.testing.assert_close(shown[grey][:, 0], views[grey].mean(dim=1))
    torch.testing.assert_close(shown[~grey], views[~grey])


def test_noise_is_normal_of_at_most_its_deviation_and_stays_between_black_and_white():
    deviation = lit(grey_views(), noise=0.05).std(dim=(1, 2, 3))
    assert deviation.max() < 0.055 and abs(deviation.mean() - 0.025) < 0.003
    shown = lit(grey_views(level=1.0), noise=0.5)
    assert shown.min() >= 0 and shown.max() == 1


def test_light_depends_on_the_generator_alone():
    views = central_views(stamps(4), 24)
    assert torch.equal(lit(views, seed=1, **ALL_LIGHT), lit(views, seed=1, **ALL_LIGHT))
    assert not torch.equal(lit(views, seed=1, **ALL_LIGHT), lit(views, seed=2, **ALL_LIGHT))


def test_three_bands_have_the_light_that_earlier_trainings_drew():
    by = Augmentation(light_probability=0.8, **ALL_LIGHT)
    light, noise = random_light(2, 16, by, torch.Generator().manual_seed(0))
    expected = [[0.6978, 0.6677, 0.7521, 0.7137, 1, 0.0147], [0.8034, 0.8574, 0.7301, 0.7787, 1, 0.0259]]
    torch.testing.assert_close(light, torch.tensor(expected), rtol=0, atol=1e-4)
    expected = torch.tensor([2.7058, -0.5322, 1.5000, -1.6804])
    torch.testing.assert_close(noise[1, 2, 15, 12:], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("change", [{"blur": 2.0}, {"brightness": 1.5}, {"noise": 0.05}])
def test_one_band_stays_one(change):
    views = central_views(stamps(8), 24)[:, :1]
    shown = lit(views, **change)
    assert shown.shape == views.shape
    assert (shown - views).abs().max() > 1e-2
