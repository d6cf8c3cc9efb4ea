"""Mock skies of today's surveys: FITS cutouts of their bands, and counts of votes."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from PIL import Image

from hubblefork.data.ingest import ingest
from hubblefork.data.stamps import prepare
from hubblefork.errors import CatalogueError, RecipeError
from hubblefork.images.cutouts import Reading
from hubblefork.images.decoder import StampSpec
from hubblefork.images.surveys import load_survey, survey_names
from hubblefork.mock import write_mock_sky
from hubblefork.tables.catalogue import read_catalogue


def written(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.fixture(scope="module")
def euclid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("euclid")
    write_mock_sky(folder, galaxies=8, test_galaxies=2, seed=4, survey="euclid", volunteers=5, processes=1)
    return folder


def test_the_same_seed_gives_the_same_files_whatever_the_processes(euclid, tmp_path, monkeypatch):
    monkeypatch.setattr("hubblefork.mock.sky.WORTH_A_PROCESS", 5)
    write_mock_sky(tmp_path, galaxies=8, test_galaxies=2, seed=4, survey="euclid", volunteers=5, processes=2)
    first, second = written(euclid), written(tmp_path)
    assert len(first) == 12 and first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_labels_are_counts_with_ids_positions_and_redshifts(euclid):
    table = pq.read_table(euclid / "solutions.parquet")
    assert table.column_names[:9] == [
        *("id_str", "ra", "dec", "petro_r90", "redshift"),
        *(
            f"smooth-or-featured-euclid_{name}"
            for name in ("smooth", "featured-or-disk", "problem", "total-votes")
        ),
    ]
    images = sorted(path.stem for path in (euclid / "images_training").iterdir())
    assert table["id_str"].to_pylist() == images and len(images) == 8
    counts = {name: np.array(table[name]) for name in table.column_names[5:]}
    for name, total in counts.items():
        question, _, answer = name.rpartition("_")
        if answer == "total-votes":
            votes = [counts[other] for other in counts if other.startswith(f"{question}_") and other != name]
            np.testing.assert_array_equal(np.sum(votes, axis=0), total)
    np.testing.assert_array_equal(
        counts["disk-edge-on-euclid_total-votes"], counts["smooth-or-featured-euclid_featured-or-disk"]
    )
    assert counts["smooth-or-featured-euclid_total-votes"].mean() < 12
    truth = read_catalogue(euclid / "truth.parquet")
    for name in ("ra", "dec", "petro_r90", "redshift"):
        assert truth[name].to_pylist()[:8] == table[name].to_pylist()
    assert truth["labelled"].to_pylist() == [True] * 8 + [False] * 2
    assert truth["bar_fraction"][0].as_py() == pytest.approx(0.4 / (1 + truth["redshift"][0].as_py()))
    header = fits.getheader(euclid / "images_training" / f"{images[3]}.fits", "VIS")
    assert (header["CRVAL1"], header["CRVAL2"]) == (truth["ra"][3].as_py(), truth["dec"][3].as_py())


def test_stamps_may_show_so_many_petrosian_radii(euclid, tmp_path):
    data = tmp_path / "data"
    labels, reading = [euclid / "solutions.parquet"], Reading.of("euclid")
    ingest([euclid / "images_training"], data, labels=labels, reading=reading)
    known = read_catalogue(data / "catalogue.parquet")
    truth = read_catalogue(euclid / "truth.parquet")
    assert known["petro_r90"].to_pylist() == truth["petro_r90"].to_pylist()[:8]
    shown = [prepare(data, StampSpec(f"{radii} R90", 16)).astype(float) for radii in (2, 6)]
    assert (shown[0].mean(axis=(1, 2, 3)) > shown[1].mean(axis=(1, 2, 3))).all()


@pytest.mark.parametrize("name", [name for name in survey_names() if name != "sdss"])
def test_images_are_the_surveys(name, tmp_path):
    survey = load_survey(name)
    write_mock_sky(tmp_path, galaxies=4, test_galaxies=0, seed=2, survey=name, pixel=2.0, processes=1)
    magnitudes = read_catalogue(tmp_path / "truth.parquet").select([f"mag_{band}" for band in survey.bands])
    for path in (tmp_path / "images_training").iterdir():
        with fits.open(path) as units:
            assert tuple(unit.header["BAND"] for unit in units[1:]) == survey.bands
            assert units[1].header["CD2_2"] * 3600 == pytest.approx(2 * survey.pixel_scale)
            assert all(np.isfinite(unit.data).all() for unit in units[1:])
    assert magnitudes.num_rows == 4


def test_sdss_with_counts_is_jpegs(tmp_path):
    write_mock_sky(tmp_path, galaxies=3, test_galaxies=1, seed=2, tree="gz2_galaxy_datasets", processes=1)
    paths = [*(tmp_path / "images_training").iterdir(), *(tmp_path / "images_test").iterdir()]
    assert [Image.open(path).size for path in paths] == [(424, 424)] * 4
    names = pq.read_schema(tmp_path / "solutions.parquet").names
    assert "bulge-size-gz2_just-noticeable" in names and "bulge-size-gz2_total-votes" in names


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"survey": "legacy", "tree": "galaxy_zoo_2"}, CatalogueError, "galaxy_zoo_2: no published table"),
        ({"survey": "euclid", "volunteers": 0}, CatalogueError, "0 volunteers"),
        ({"survey": "eucild"}, RecipeError, "euclid"),
    ],
)
def test_skies_that_cannot_be_are_refused(tmp_path, how, error, words):
    with pytest.raises(error, match=words):
        write_mock_sky(tmp_path, galaxies=3, seed=0, **how)
    assert list(tmp_path.iterdir()) == []
