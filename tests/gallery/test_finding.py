"""Similar and odd galaxies by the endpoints: neighbours, orders and filters by likeness, ranks by tag."""

import shutil
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from tests.gallery.conftest import WITHOUT_IMAGE
from tests.gallery.test_features import Pixels

from hubblefork.gallery import likeness
from hubblefork.gallery.gallery import open_gallery
from hubblefork.gallery.server import create
from hubblefork.prediction.predictor import Predictor

ORIGIN = {"Origin": "http://127.0.0.1"}


def opened(folder, files, tree):
    gallery = open_gallery(folder / "sky.parquet", [files.images])
    gallery.likeness.predictor = Predictor(Pixels(tree))
    return TestClient(create(gallery), base_url="http://127.0.0.1", headers=ORIGIN)


def wait(client):
    end = time.monotonic() + 60
    while client.get("/api/features").json()["state"] != "there" or "map.x" not in quantities(client):
        assert time.monotonic() < end and not client.get("/api/features").json()["fault"]
        time.sleep(0.05)


def quantities(client):
    return client.app.state.gallery.store.quantities.names()


@pytest.fixture(scope="module")
def seen(files, tree, tmp_path_factory):
    """A client of a gallery whose images a network has looked at."""
    folder = tmp_path_factory.mktemp("likeness")
    shutil.copy(files.catalogue, folder / "sky.parquet")
    umap = SimpleNamespace(UMAP=lambda **_: SimpleNamespace(fit_transform=lambda values: values[:, :2]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", umap)
        patch.setattr(likeness, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
        with opened(folder, files, tree) as client:
            refused = client.get("/api/near/1003")
            assert refused.status_code == 400 and "has looked at all images" in refused.json()["error"]
            assert client.get("/api/features").json()["state"] == "absent"
            assert client.post("/api/features").json()["state"] in ("working", "there")
            wait(client)
            yield client


def first(client, sort, **parameters):
    found = client.get("/api/galaxies", params={"sort": sort, "limit": 240, **parameters}).json()
    assert "error" not in found, found
    return [galaxy["row"] for galaxy in found["galaxies"]]


def test_the_neighbours_of_a_galaxy_and_the_wall_in_their_order(seen):
    index = seen.app.state.gallery.likeness.index
    rows, distances = index.nearest(3, 20)
    near = seen.get("/api/near/1003", params={"count": 20}).json()
    assert [galaxy["row"] for galaxy in near] == rows.tolist()
    assert near[0]["likeness"] == pytest.approx(1 - float(distances[0]), abs=1e-6)
    assert first(seen, "-like.1003")[:21] == [3, *rows.tolist()]
    within = first(seen, "-like.1003", f=f"like.1003:{1 - distances[9]:.6f}:", offset=0)
    assert len(within) in (10, 11) and set(within) <= {3, *rows[:11].tolist()}


def test_odd_first_and_the_map_are_quantities_like_others(seen):
    index = seen.app.state.gallery.likeness.index
    odd = index.unfamiliarity()
    drawn = seen.get("/api/density", params={"x": "map.x", "y": "map.y"}).json()
    assert np.sum(drawn["counts"]) == index.known.sum()
    order = np.argsort(-np.nan_to_num(odd, nan=-1).astype(np.float32), kind="stable").tolist()
    assert first(seen, "-unfamiliarity")[:50] == order[:50]
    assert first(seen, "-unfamiliarity", offset=240)[:30] == order[240:270]
    assert odd[first(seen, "unfamiliarity")[0]] == np.nanmin(odd)
    assert first(seen, "unfamiliarity", offset=600)[-1] == int(WITHOUT_IMAGE) - 1000
    assert "odd first" in seen.get("/").text


def test_ids_are_integers_as_they_are_written(seen):
    store = seen.app.state.gallery.store
    assert store.rows_of(["1005", "01003", "x", "1002", ""]).tolist() == [2, 5]


def test_galaxies_with_a_tag_rank_the_others(seen):
    assert "no galaxy has the tag" in seen.get("/api/galaxies", params={"sort": "-tag.ring"}).json()["error"]
    gallery = seen.app.state.gallery

    def tag(galaxy_id, value):
        said = {"person": "Ada", "galaxy_id": galaxy_id, "kind": "tag", "value": value}
        assert seen.post("/api/marks", json=said).status_code == 200

    for galaxy_id in ("1001", "1004", "1005", "1012", "1020"):
        tag(galaxy_id, "ring")
    index, wanted = gallery.likeness.index, np.array([1, 4, 5, 12, 20])
    scores = np.nan_to_num(index.ranked(wanted), nan=-9)
    assert first(seen, "-tag.ring")[:100] == np.argsort(-scores)[:100].tolist()
    other = first(seen, "-tag.ring")[0]
    tag(str(1000 + other), "not ring")
    scores = np.nan_to_num(index.ranked(wanted, np.array([other])), nan=-9)
    assert first(seen, "-tag.ring")[:100] == np.argsort(-scores)[:100].tolist()


def test_a_galaxy_without_an_image_or_of_another_catalogue_is_named(seen):
    assert "there is no image of it" in seen.get(f"/api/near/{WITHOUT_IMAGE}").json()["error"]
    assert 'has no galaxy "nobody"' in seen.get("/api/near/nobody").json()["error"]
    assert 'has no galaxy "x"' in seen.get("/api/galaxies", params={"sort": "-like.x"}).json()["error"]


def test_a_dropped_image_finds_itself(seen, files):
    with zipfile.ZipFile(files.images) as archive:
        image = archive.read("sky/1042.jpg")
    near = seen.post("/api/near", files={"image": ("a.jpg", image)}, params={"count": 3}).json()
    assert near[0]["galaxy_id"] == "1042" and near[0]["likeness"] == pytest.approx(1, abs=1e-5)


def test_what_was_seen_is_opened_at_the_next_start_without_the_network(seen, files, tree, monkeypatch):
    monkeypatch.setattr(likeness, "digest_of", lambda path: "digest")
    monkeypatch.setattr(likeness, "open_network", None)
    gallery = open_gallery(seen.app.state.gallery.store.path, [files.images])
    with TestClient(create(gallery), base_url="http://127.0.0.1") as again:
        wait(again)
        assert again.get("/api/near/1003").json() == seen.get("/api/near/1003").json()


def test_what_another_network_saw_is_not_opened(seen, files):
    gallery = open_gallery(seen.app.state.gallery.store.path, [files.images])
    with TestClient(create(gallery), base_url="http://127.0.0.1") as again:
        end = time.monotonic() + 60
        while again.get("/api/features").json()["state"] != "absent":
            assert time.monotonic() < end
        assert gallery.likeness.index is None and not gallery.likeness.fault


def test_of_many_orders_the_oldest_is_forgotten_and_made_again(seen):
    for galaxy in range(1010, 1030):
        first(seen, f"-like.{galaxy}")
    assert len(seen.app.state.gallery.likeness._asked) == 8
    assert first(seen, "-like.1010")[0] == 10
