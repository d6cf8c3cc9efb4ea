"""Selections, orders and counts against NumPy; what a request cannot have is refused with the reason."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from fastapi.testclient import TestClient
from matplotlib.path import Path as Polygon
from PIL import Image

import hubblefork as hf
from hubblefork.errors import ImageError
from hubblefork.gallery import pictures
from hubblefork.gallery.gallery import open_gallery
from hubblefork.gallery.selection import Order, Region, Selection, selection_of
from hubblefork.gallery.server import create
from hubblefork.gallery.store import BINS, Store
from hubblefork.images.cutouts import Reading
from hubblefork.tables.catalogue import read_catalogue, write_catalogue
from hubblefork.tables.shards import CatalogueFolder, shard_table
from hubblefork.zoo import to_conditional


@pytest.fixture(scope="module")
def store(files):
    return Store(files.catalogue, files.labels)


def chosen(store, **parameters) -> set[int]:
    return set(store.rows(selection_of(parameters)).tolist())


def test_ranges_queries_and_ids_select_what_numpy_selects(store, files, tree):
    spiral, barred = (files.joint[:, tree.column(name)] for name in ("spiral", "barred"))
    conditional = to_conditional(tree, files.joint)[:, tree.column("spiral")]
    expected = {
        ("spiral:0.2:0.6",): (spiral >= 0.2) & (spiral <= np.float32(0.6)),
        ("spiral:0.2:", "barred::0.1"): (spiral >= 0.2) & (barred <= np.float32(0.1)),
        ("spiral~:0.5:",): conditional >= 0.5,
        ("volunteers.spiral:0.3:",): files.votes[:, tree.column("spiral")] >= 0.3,
        ("difference.spiral:0.1:",): spiral - files.votes[:, tree.column("spiral")] >= 0.1,
    }
    for ranges, holds in expected.items():
        assert 0 < holds.sum() < len(holds)
        assert chosen(store, f=ranges) == set(np.flatnonzero(holds).tolist()), ranges
    either = (spiral > 0.4) | ~(barred + files.joint[:, tree.column("ring")] <= 0.3)
    assert chosen(store, q=["spiral > 0.4 | ~(barred + ring <= 0.3)"]) == set(np.flatnonzero(either).tolist())
    assert chosen(store, named=["104"]) == {104, *range(40, 50)}


def test_a_region_holds_what_lies_in_the_polygon(store, files, tree):
    corners = ((0.0, 0.05), (0.5, 0.0), (0.3, 0.2), (0.45, 0.6), (0.1, 0.4))
    points = np.stack([files.joint[:, tree.column(name)] for name in ("spiral", "barred")], axis=1)
    inside = Polygon(corners).contains_points(points)
    assert 10 < inside.sum() < len(inside)
    region = Region("spiral", "barred", corners)
    assert store.rows(Selection(regions=(region,))).tolist() == np.flatnonzero(inside).tolist()


def test_pages_follow_one_another_in_the_order_asked_for(store, files, tree):
    spiral = files.joint[:, tree.column("spiral")]
    pages = [
        store.page(Selection(), Order.parse("-spiral"), offset=start, limit=250, shown=["spiral"])
        for start in (0, 250, 500, 750)
    ]
    rows = [galaxy["row"] for page in pages for galaxy in page]
    assert rows == np.lexsort((np.arange(len(spiral)), -spiral)).tolist()
    assert pages[0][0]["spiral"] == pytest.approx(float(spiral.max()))
    assert [g["galaxy_id"] for g in store.at([5, 2])] == ["1005", "1002"]
    mixed = [g["row"] for g in store.page(Selection(), Order("random"), offset=0, limit=620)]
    assert sorted(mixed) == list(range(620)) and mixed != sorted(mixed)


def test_the_galaxies_furthest_from_the_volunteers_and_the_least_certain_come_first(store, files, tree):
    apart = np.sqrt(((files.joint - files.votes) ** 2).mean(axis=1))
    first = store.page(Selection(), Order.parse("-disagreement"), offset=0, limit=3, shown=["disagreement"])
    assert [galaxy["row"] for galaxy in first] == np.argsort(-apart)[:3].tolist()
    assert first[0]["disagreement"] == pytest.approx(apart.max(), rel=1e-3)
    width = files.joint[:, tree.column("merger")] / 2
    least = store.page(Selection(), Order.parse("-uncertainty"), offset=0, limit=1)
    assert least[0]["row"] == int(np.argmax(width))


def test_histograms_and_densities_count_every_galaxy_once(store, files, tree):
    spiral, selection = files.joint[:, tree.column("spiral")], selection_of({"f": ["barred:0.2:"]})
    made = store.histogram("spiral", selection)
    place = np.minimum((spiral * BINS).astype(int), BINS - 1)
    held = files.joint[:, tree.column("barred")] >= 0.2
    assert made["all"] == np.bincount(place, minlength=BINS).tolist()
    assert made["selected"] == np.bincount(place[held], minlength=BINS).tolist()
    density = store.density("column.redshift", "spiral", selection)
    assert np.sum(density["counts"]) == held.sum() == store.count(selection)
    assert density["x_edges"][0] > 0


def test_shards_are_one_catalogue(store, files, tree, tmp_path):
    table, folder = read_catalogue(files.catalogue), tmp_path / "shards"
    folder.mkdir()
    for start in (0, 300):
        part = table.slice(start, 300 if not start else None)
        CatalogueFolder(folder).write_shard(f"{start:05d}", shard_table(part, tree))
    CatalogueFolder(folder).finish()
    sharded, selection = Store(folder, files.labels), selection_of({"f": ["spiral~:0.5:"]})
    assert sharded.rows(selection).tolist() == store.rows(selection).tolist()
    assert pa.chunked_array(sharded.ids()).to_pylist() == [str(1000 + row) for row in range(620)]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("/api/galaxies?f=spirall:0:1", 'did you mean "spiral"?'),
        ("/api/galaxies?f=spiral:1:0", "the lower end is above"),
        ("/api/galaxies?f=spiral", "write spiral:0.6:1"),
        ("/api/galaxies?f=column.x%22)%20or%20true--:0:1", "no quantity"),
        ("/api/galaxies?sort=spiral;drop", "no quantity"),
        ("/api/galaxies?q=spiral%20>%202", "no fraction"),
        ("/api/galaxies?in=spiral:barred:0,0,1", "no region"),
        ("/stamp/1007", "has no image"),
        ("/stamp/..%2F..%2Fetc%2Fpasswd", "has no image"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(client, address, reason):
    answer = client.get(address)
    assert answer.status_code in (400, 404)
    assert reason in answer.json()["error"]


def test_numbers_out_of_range_are_refused(client):
    for address in ("/api/galaxies?limit=100000", "/api/galaxies?offset=-1", "/stamp/1000?size=99999"):
        assert client.get(address).status_code == 422


def test_a_galaxy_has_a_page_and_a_json_twin(client, files, tree):
    twin = client.get("/galaxy/1003.json").json()
    assert twin["spiral"] == pytest.approx(float(files.joint[3, tree.column("spiral")]), abs=1e-6)
    assert twin["volunteers"]["spiral"] == pytest.approx(
        float(files.votes[3, tree.column("spiral")]), abs=1e-6
    )
    page = client.get("/galaxy/1003").text
    assert '<p class="key">Fractions: predicted · <span class="votes-number">volunteers</span></p>' in page
    assert "legacysurvey.org/viewer?ra=" in page and f"{twin['merger']:.2f}" in page
    assert client.get("/galaxy/nobody").status_code == 404


def test_names_and_ids_are_escaped(files, tree, tmp_path):
    evil, place = "<script>alert(1)</script>", tmp_path / "evil.parquet"
    ids = pa.array([evil, "'\"&/../x"])
    write_catalogue(read_catalogue(files.catalogue).slice(0, 2).set_column(0, "galaxy_id", ids), place)
    with TestClient(create(open_gallery(place, [])), base_url="http://127.0.0.1") as client:
        page = client.get(f"/galaxy/{evil}")
        assert page.status_code == 200 and evil not in page.text
        assert client.get("/api/galaxies").json()["galaxies"][1]["galaxy_id"] == "'\"&/../x"


def test_stamps_are_the_centre_of_the_image(client, files, tmp_path):
    shown = client.get("/stamp/1003?size=32&share=0.5")
    assert shown.headers["content-type"] == "image/jpeg"
    made = np.asarray(Image.open(io.BytesIO(shown.content)).convert("RGB"), float)
    shutil.unpack_archive(files.images, tmp_path)
    whole = Image.open(tmp_path / "sky" / "1003.jpg").crop((24, 24, 72, 72)).resize((32, 32), Image.BICUBIC)
    assert made.shape == (32, 32, 3)
    assert np.abs(made - np.asarray(whole, float)).mean() < 6


def test_fluxes_are_shown_in_the_stretch_of_their_survey_and_can_be_made_brighter(files, tmp_path):
    y, x = np.mgrid[:64, :64] - 32
    for galaxy_id in (1000, 1001):
        noise = np.random.default_rng(galaxy_id).normal(0, 0.03, (64, 64))
        flux = noise + 3 * np.exp(-np.hypot(x, y) / 6)
        fits.PrimaryHDU(flux.astype(np.float32)).writeto(tmp_path / f"{galaxy_id}.fits")
    gallery = open_gallery(
        files.catalogue, [tmp_path], reading=replace(Reading.of("euclid_vis"), bands=("vis",))
    )
    with TestClient(create(gallery), base_url="http://127.0.0.1") as client:
        shown = [client.get(f"/stamp/1000?gain={gain}").content for gain in (0.3, 1, 3)]
        assert "Brightness" in client.get("/").text
    galaxy = [np.asarray(Image.open(io.BytesIO(one)))[24:40, 24:40].mean() for one in shown]
    assert galaxy[0] < galaxy[1] - 20 < galaxy[2] - 30


def test_dropped_images_get_their_fractions_or_the_reason(client, tree):
    pixels, place = np.random.default_rng(0).integers(0, 255, (424, 424, 3), np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(place, "JPEG")
    uploads = [("images", ("a.jpg", place.getvalue())), ("images", ("b.jpg", b"no image"))]
    first, second = client.post("/api/classify", files=uploads).json()
    assert first["answers"] == list(tree.columns)
    expected = hf.classify(place.getvalue())
    assert first["fractions"] == pytest.approx(expected.fractions.tolist()) and len(first["low"]) == 37
    assert "neither a JPEG nor a PNG" in second["error"]
    assert client.post("/api/classify", files=uploads * 40).status_code == 400


def test_an_image_that_is_still_looked_for_is_not_said_to_be_absent(files, monkeypatch):
    monkeypatch.setattr(pictures, "WAIT", 0.0)
    monkeypatch.setattr(pictures.Pictures, "_list", lambda self: None)
    with pytest.raises(ImageError, match="still being looked for"):
        pictures.Pictures([files.images], []).jpeg("1000", size=64)
