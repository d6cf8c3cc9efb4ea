"""Two catalogues side by side: differences per answer against NumPy, as a page, as JSON and as an order."""

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from hubblefork.errors import CatalogueError
from hubblefork.gallery.gallery import open_gallery
from hubblefork.gallery.server import create
from hubblefork.gallery.store import Store
from hubblefork.tables.catalogue import with_fractions, write_catalogue


@pytest.fixture(params=[".parquet", ".csv"])
def other(request, files, tree, tmp_path):
    """The votes as a catalogue: in another order, without some galaxies, with ids as text."""
    rows = np.random.default_rng(1).permutation(len(files.votes))[20:]
    ids = pa.array([str(1000 + row) for row in rows])
    path = tmp_path / f"other{request.param}"
    write_catalogue(with_fractions(pa.table({"galaxy_id": ids}), files.votes[rows], tree), path)
    return path, rows


def test_differences_are_those_of_numpy(files, tree, other):
    path, rows = other
    client = TestClient(create(open_gallery(files.catalogue, [], compare=path)), base_url="http://127.0.0.1")
    found = client.get("/compare.json").json()
    assert found["beside"] == path.name
    rms = [row["rms"] for row in found["answers"]]
    assert len(rms) == len(tree.columns) and rms == sorted(rms, reverse=True)
    difference = files.joint[rows].astype(float) - files.votes[rows]
    for row in found["answers"]:
        own = difference[:, tree.column(row["answer"])]
        assert row["galaxies"] == len(rows)
        assert row["mean"] == pytest.approx(own.mean(), abs=1e-6)
        assert row["rms"] == pytest.approx(np.sqrt((own**2).mean()), abs=1e-6)
        assert row["scatter"] == pytest.approx(own.std(), abs=1e-6)
        assert row["largest"] == pytest.approx(np.abs(own).max(), abs=1e-6)
        assert row["galaxy_id"] == str(1000 + rows[np.abs(own).argmax()])
    ring = np.abs(difference[:, tree.column("ring")])
    listed = client.get("/api/galaxies", params={"sort": "-distance.ring", "limit": 5}).json()["galaxies"]
    assert [galaxy["galaxy_id"] for galaxy in listed] == [
        str(1000 + row) for row in rows[np.argsort(-ring)[:5]]
    ]
    page = client.get("/compare").text
    assert f"sky.parquet and {path.name} disagree" in page and "distance.ring" in page
    assert ">tight arms</a>" in page and "arms tight" not in page


def test_differences_are_those_of_a_selection(client, files, tree):
    spiral = files.joint[:, tree.column("spiral")] >= np.float32(0.3)
    found = client.get("/compare.json", params={"f": "spiral:0.3:"}).json()["answers"]
    assert {row["galaxies"] for row in found} == {spiral.sum()}
    nobody = client.get("/compare.json", params={"named": "nobody"}).json()["answers"]
    assert nobody[0]["galaxies"] == 0 and nobody[0]["rms"] is None
    assert "no galaxy has both" in client.get("/compare", params={"named": "nobody"}).text


def test_what_cannot_be_compared_is_refused(files, tmp_path):
    client = TestClient(create(open_gallery(files.catalogue, [])), base_url="http://127.0.0.1")
    refused = client.get("/compare")
    assert refused.status_code == 400 and "--compare" in refused.json()["error"]
    with pytest.raises(CatalogueError, match="one of them"):
        Store(files.catalogue, files.labels, files.catalogue)
    write_catalogue(pa.table({"galaxy_id": [1], "bright": [0.5]}), tmp_path / "odd.parquet")
    with pytest.raises(CatalogueError, match="no answer of galaxy_zoo_2"):
        Store(files.catalogue, other=tmp_path / "odd.parquet")
