"""The mock sky: the same for the same seed, obeying the tree, and showing what the truth says."""

import csv
import io
import zipfile
from dataclasses import replace

import galsim
import numpy as np
import pytest
from PIL import Image

from hubblefork.errors import CatalogueError
from hubblefork.mock import draw_cutout, random_galaxy, vote, write_mock_sky
from hubblefork.mock.galaxies import CUTOUT, KINDS, PIXELS_A_PETRO_R90
from hubblefork.mock.sky import draw_mock
from hubblefork.mock.volunteers import clearness
from hubblefork.tables.catalogue import fractions, galaxy_ids, read_catalogue
from hubblefork.zoo import violations

FILES = ("images_training_rev1.zip", "training_solutions_rev1.zip", "images_test_rev1.zip", "truth.parquet")


def a_galaxy(seed=0, **truth):
    return replace(random_galaxy(np.random.default_rng(seed), merger_fraction=0.0), **truth)


def mean_votes(tree, *, count=60, merger_fraction=0.0, **truth):
    rng = np.random.default_rng(1)
    drawn = [replace(random_galaxy(rng, merger_fraction=merger_fraction), **truth) for _ in range(count)]
    joint = np.stack([vote(galaxy, tree, rng).joint(tree) for galaxy in drawn])
    return dict(zip(tree.columns, np.nanmean(joint, axis=0), strict=True))


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sky")
    write_mock_sky(folder, galaxies=60, seed=4, processes=1)
    return folder


def test_the_same_seed_gives_the_same_bytes_whatever_the_processes(sky, tmp_path, monkeypatch):
    monkeypatch.setattr("hubblefork.mock.sky.WORTH_A_PROCESS", 10)
    write_mock_sky(tmp_path, galaxies=60, seed=4, processes=2)
    for name in FILES[:3]:
        assert (tmp_path / name).read_bytes() == (sky / name).read_bytes(), name
    assert read_catalogue(tmp_path / FILES[3]).equals(read_catalogue(sky / FILES[3]))


@pytest.mark.parametrize(
    ("number", "kind", "petro_r90", "votes", "grey", "centre"),
    [
        (0, "edge_on", 14.799389725869574, [13, 29, 1, 21, 8], 13.860608, [248, 204, 179]),
        (1, "irregular", 6.298459164390204, [29, 22, 1, 2, 20], 14.550493, [168, 172, 197]),
        (2, "spiral", 5.633383142239938, [6, 35, 1, 1, 34], 15.581436, [250, 204, 170]),
    ],
)
def test_the_sky_of_a_seed_is_what_it_was(number, kind, petro_r90, votes, grey, centre):
    mock = draw_mock(4, number, merger_fraction=0.06)
    pixels = np.asarray(Image.open(io.BytesIO(mock.image)))
    assert (mock.truth["kind"], mock.truth["petro_r90"]) == (kind, petro_r90)
    assert mock.votes.counts[:5].tolist() == votes
    assert pixels.mean() == pytest.approx(grey, rel=1e-4)
    np.testing.assert_allclose(pixels[212, 212], centre, atol=2)


def test_another_seed_gives_another_sky(sky, tmp_path):
    write_mock_sky(tmp_path, galaxies=20, seed=5, processes=1)
    one, other = (
        set(galaxy_ids(read_catalogue(folder / "truth.parquet")).tolist()) for folder in (sky, tmp_path)
    )
    assert len(one & other) < 3


def test_files_are_kaggles(sky, tree):
    with zipfile.ZipFile(sky / "training_solutions_rev1.zip") as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("training_solutions_rev1.csv"))))
    assert list(rows[0]) == ["GalaxyID", *tree.source_columns]
    for name, count in (("images_training_rev1", 60), ("images_test_rev1", 15)):
        with zipfile.ZipFile(sky / f"{name}.zip") as archive:
            members = archive.namelist()
            image = Image.open(archive.open(members[0]))
            assert (image.format, image.size, image.mode) == ("JPEG", (424, 424), "RGB")
        assert len(members) == count and all(member.startswith(f"{name}/") for member in members)
        if count == 60:
            assert members == [f"{name}/{row['GalaxyID']}.jpg" for row in rows]


def test_labels_are_those_of_the_truth_and_obey_the_tree(sky, tree):
    truth = read_catalogue(sky / "truth.parquet")
    joint = fractions(truth, tree)
    assert violations(tree, joint, 1e-9) == []
    with zipfile.ZipFile(sky / "training_solutions_rev1.zip") as archive:
        rows = list(csv.reader(io.TextIOWrapper(archive.open("training_solutions_rev1.csv"))))[1:]
    written = np.array([[float(value or "nan") for value in row] for row in rows])
    assert written[:, 0].astype(int).tolist() == galaxy_ids(truth)[:60].tolist()
    np.testing.assert_allclose(written[:, 1:], joint[:60], equal_nan=True)


def test_many_votes_obey_the_tree_and_leave_only_oddness_unasked(tree):
    rng = np.random.default_rng(2)
    joint = np.stack(
        [vote(random_galaxy(rng, merger_fraction=0.1), tree, rng).joint(tree) for _ in range(1500)]
    )
    stars = np.stack([vote(a_galaxy(kind="star"), tree, rng).joint(tree) for _ in range(500)])
    both = np.concatenate([joint, stars])
    assert violations(tree, both, 1e-9) == []
    unasked = {
        tree.questions[tree.question_of[column]].name for column in np.flatnonzero(np.isnan(both).any(axis=0))
    }
    assert unasked <= {"odd", "odd_feature"}


def test_votes_are_whole_numbers_of_volunteers(tree):
    rng = np.random.default_rng(3)
    votes = vote(a_galaxy(), tree, rng)
    first = votes.joint(tree)[tree.slices[0]] * votes.volunteers
    np.testing.assert_allclose(first, votes.counts[tree.slices[0]], atol=1e-9)
    assert 20 < votes.volunteers < 80


FACE_ON = {"kind": "disk", "axis_ratio": 0.8, "bar": 0.0}
ROUND = {"kind": "elliptical", "axis_ratio": 0.97}
EDGE_ON = {"kind": "edge_on", "axis_ratio": 0.15, "boxy": 0.0}


@pytest.mark.parametrize(
    ("answer", "truth", "other"),
    [
        ("smooth", ROUND, {**FACE_ON, "kind": "spiral", "arm_contrast": 0.8, "arms": 2}),
        ("star_or_artifact", {"kind": "star"}, ROUND),
        ("edge_on_disk", EDGE_ON, FACE_ON),
        ("barred", {**FACE_ON, "bar": 0.9}, FACE_ON),
        ("spiral", {**FACE_ON, "kind": "spiral", "arm_contrast": 0.9}, FACE_ON),
        ("ring", {**FACE_ON, "ring": 0.9}, FACE_ON),
        ("lens_or_arc", {**ROUND, "arc": 0.9}, ROUND),
        ("dust_lane", {**EDGE_ON, "dust": 0.9}, EDGE_ON),
        ("disturbed", {**FACE_ON, "disturbed": 0.9}, FACE_ON),
        ("irregular", {"kind": "irregular"}, ROUND),
        ("bulge_boxy", {**EDGE_ON, "boxy": 0.9}, EDGE_ON),
        ("completely_round", ROUND, {**ROUND, "axis_ratio": 0.5}),
        ("merger", {"is_merger": True, "companion": 0.8, "tails": 0.8}, {"is_merger": False}),
    ],
)
def test_volunteers_see_what_is_there(tree, answer, truth, other):
    plain = {"arm_contrast": 0.0, "petro_r90": 12.0, "ring": 0.0, "arc": 0.0, "dust": 0.0, "disturbed": 0.0}
    seen = mean_votes(tree, **{**plain, **truth})[answer]
    assert seen > 2.5 * mean_votes(tree, **{**plain, **other})[answer]


def test_distance_hides_arms(tree):
    spiral = {"kind": "spiral", "arm_contrast": 0.9, "arms": 2, "axis_ratio": 0.8, "brightness": 0.4}
    assert (
        mean_votes(tree, **spiral, petro_r90=15.0)["spiral"]
        > 2 * mean_votes(tree, **spiral, petro_r90=3.0)["spiral"]
    )
    assert clearness(a_galaxy(petro_r90=10.0), seeing=2.0) < clearness(a_galaxy(petro_r90=10.0))


def test_the_dial_sets_the_share_of_mergers():
    rng = np.random.default_rng(0)
    share = np.mean([random_galaxy(rng, merger_fraction=0.2).is_merger for _ in range(3000)])
    assert share == pytest.approx(0.2, abs=0.025)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn(kind):
    rng = np.random.default_rng(8)
    galaxy = next(g for g in (random_galaxy(rng, merger_fraction=0.0) for _ in range(5000)) if g.kind == kind)
    cutout = draw_cutout(galaxy, rng)
    assert cutout.shape == (CUTOUT, CUTOUT, 3) and cutout.dtype == np.uint8
    centre, corner = cutout[182:242, 182:242].mean(), cutout[:60, :60].mean()
    assert centre > corner + 8


def test_the_frame_is_set_by_the_size():
    """A de Vaucouleurs galaxy's half-light radius, in cutout pixels, is the same at any angular size."""
    rng = np.random.default_rng(0)
    widths = []
    for petro_r90 in (8.0, 16.0):
        bare = {"bulge": 0.0, "bar": 0.0, "arms": 0, "ring": 0.0, "disturbed": 0.0, "neighbours": 0}
        galaxy = a_galaxy(kind="disk", axis_ratio=1.0, brightness=0.3, petro_r90=petro_r90, **bare)
        light = draw_cutout(galaxy, rng, noise=0.0, seeing=0.3).sum(axis=2).astype(float)
        moments = galsim.hsm.FindAdaptiveMom(galsim.Image(light - np.median(light[:40]), scale=1.0))
        widths.append(moments.moments_sigma)
    assert widths[0] == pytest.approx(widths[1], rel=0.1)
    assert 0.2 * PIXELS_A_PETRO_R90 < widths[0] < 1.2 * PIXELS_A_PETRO_R90


def test_worse_seeing_blurs_and_noise_is_noise():
    galaxy = a_galaxy(kind="spiral", arms=2, arm_contrast=0.9, petro_r90=10.0, neighbours=0, axis_ratio=0.9,
                      bulge=0.1, brightness=0.5)  # fmt: skip
    sharp, blurred, noisy = (
        draw_cutout(galaxy, np.random.default_rng(1), **dials).astype(float)
        for dials in ({"noise": 0.0}, {"seeing": 3.0, "noise": 0.0}, {"noise": 4.0})
    )
    detail = [
        np.abs(np.diff(cutout[140:284, 140:284].mean(axis=2), axis=1)).mean() for cutout in (sharp, blurred)
    ]
    assert detail[0] > 1.3 * detail[1]
    assert noisy[:60, :60].std() > 3 * sharp[:60, :60].std()


def test_larger_pixels_hold_less_detail_and_the_dial_at_one_changes_nothing():
    galaxy = a_galaxy(kind="spiral", arms=2, arm_contrast=0.9, petro_r90=10.0, neighbours=0, axis_ratio=0.9,
                      bulge=0.1, brightness=0.5)  # fmt: skip
    as_it_is, at_one, coarse = (
        draw_cutout(galaxy, np.random.default_rng(1), noise=0.0, **dials).astype(float)
        for dials in ({}, {"pixel": 1.0}, {"pixel": 6.0})
    )
    np.testing.assert_array_equal(as_it_is, at_one)
    detail = [
        np.abs(np.diff(cutout[140:284, 140:284].mean(axis=2), n=2, axis=1)).mean()
        for cutout in (as_it_is, coarse)
    ]
    assert detail[0] > 1.3 * detail[1]
    assert coarse[182:242, 182:242].mean() == pytest.approx(as_it_is[182:242, 182:242].mean(), rel=0.25)


@pytest.mark.parametrize(
    "numbers",
    [
        {"galaxies": 0},
        {"galaxies": 10, "merger_fraction": 1.5},
        {"galaxies": 900_001},
        {"galaxies": 9, "seed": -1},
    ],
)
def test_numbers_that_make_no_sky_are_refused(tmp_path, numbers):
    with pytest.raises(CatalogueError):
        write_mock_sky(tmp_path, **{"seed": 0, **numbers})
    assert list(tmp_path.iterdir()) == []
