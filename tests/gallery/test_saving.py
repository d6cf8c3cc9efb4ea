"""Marks, downloads and SAMP by the endpoints of the gallery."""

from io import BytesIO
from queue import Queue

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from astropy import samp
from astropy.table import Table

from hubblefork.data.labels import read_labels
from hubblefork.gallery.downloads import LOAD
from hubblefork.tables.catalogue import read_catalogue


@pytest.fixture(autouse=True)
def fresh(files):
    """Every test begins without marks."""
    yield
    for path in (files.folder / "sky.parquet.gallery").glob("marks.*"):
        path.unlink()


def say(client, galaxy_id, kind, value="", person="Ada", status=200, **more):
    said = {"person": person, "galaxy_id": galaxy_id, "kind": kind, "value": value, **more}
    answer = client.post("/api/marks", json=said)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_marks_are_kept_found_and_undone(client):
    say(client, "1003", "tag", "ring")
    say(client, "1005", "tag", "ring", person="Ben")
    assert say(client, "1003", "star")["holds"] is True
    found = client.get("/api/marks", params={"of": ["1003", "1004"]}).json()
    assert [(mark["person"], mark["kind"], mark["value"]) for mark in found] == [
        ("Ada", "tag", "ring"),
        ("Ada", "star", "starred"),
    ]
    assert client.get("/api/marks/summary").json() == {
        "tags": {"ring": 2},
        "people": {"Ada": 1, "Ben": 1},
        "starred": 1,
    }
    for parameters, ids in (
        ({"tag": "ring"}, ["1003", "1005"]),
        ({"tag": "ring", "by": "Ben"}, ["1005"]),
        ({"starred": True, "f": "spiral:0:1"}, ["1003"]),
        ({"tag": "lens"}, []),
    ):
        listed = client.get("/api/galaxies", params=parameters).json()
        assert [galaxy["galaxy_id"] for galaxy in listed["galaxies"]] == ids
        assert listed["selected"] == len(ids)
    assert client.post("/api/marks/undo", json={"person": "Ben"}).json()["galaxy_id"] == "1005"
    assert client.post("/api/marks/undo", json={"person": "Ben"}).json() is None
    assert client.get("/api/marks/summary").json()["tags"] == {"ring": 1}


def test_what_is_no_mark_is_refused_with_the_reason(client):
    assert "no galaxy" in say(client, "7", "star", status=400)["error"]
    assert "did you mean" in say(client, "1003", "answer", "smoth", status=400)["error"]
    say(client, "1003", "star", person="A" * 61, status=422)
    assert client.post("/api/marks", data={"person": "Ada"}).status_code == 422


def test_answers_are_downloaded_as_labels(client, tree, tmp_path):
    names = [question["name"] for question in client.get("/api/tree").json()["questions"]]
    assert names == [question.name for question in tree.questions]
    say(client, "1003", "answer", "smooth")
    (tmp_path / "labels.csv").write_bytes(client.get("/download/labels.csv").content)
    assert read_labels([tmp_path / "labels.csv"], tree).joint[0, tree.column("smooth")] == 1


def test_a_selection_is_downloaded_in_its_order(client, files, tree):
    spiral = files.joint[:, tree.column("spiral")]
    wanted = [row for row in np.argsort(-spiral, kind="stable") if spiral[row] >= np.float32(0.3)]
    parameters = {"f": "spiral:0.3:", "sort": "-spiral"}
    answer = client.get("/download/galaxies.parquet", params=parameters)
    assert answer.headers["content-disposition"].endswith("sky-selection.parquet")
    whole = read_catalogue(files.catalogue)
    assert pyarrow.parquet.read_table(BytesIO(answer.content)).equals(whole.take(wanted), check_metadata=True)
    text = client.get("/download/galaxies.csv", params=parameters).content
    ids = pyarrow.csv.read_csv(BytesIO(text)).column("galaxy_id").to_pylist()
    assert ids == [1000 + row for row in wanted]
    votable = client.get("/download/galaxies.vot", params=parameters).content
    assert len(Table.read(BytesIO(votable), format="votable")) == len(wanted)
    assert client.get("/download/galaxies.csv", params={"f": "spirl:0:1"}).status_code == 400
    assert client.get("/download/galaxies.xlsx").status_code == 400
    empty = client.get("/download/galaxies.csv", params={"named": "nothing"}).text
    assert empty.startswith('"galaxy_id"') and empty.count("\n") == 1


def test_a_sheet_shows_the_first_of_a_selection_that_have_an_image(client):
    answer = client.get("/download/sheet.pdf", params={"named": "100", "sort": "-spiral", "first": 6})
    assert answer.content.startswith(b"%PDF-") and answer.headers["content-type"] == "application/pdf"
    assert client.get("/download/sheet.pdf", params={"named": "1007"}).status_code == 400


def test_a_selection_is_sent_to_topcat(client, tmp_path, monkeypatch):
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'samp').as_uri()}")
    refused = client.post("/api/samp", params={"tag": "ring"})
    assert refused.status_code == 400 and "start TOPCAT" in refused.json()["error"]
    hub = samp.SAMPHubServer(lockfile=str(tmp_path / "samp"), web_profile=False, addr="127.0.0.1")
    hub.start()
    topcat = samp.SAMPIntegratedClient(metadata={"samp.name": "TOPCAT"}, addr="127.0.0.1")
    received: Queue[dict] = Queue()
    try:
        topcat.connect()
        topcat.bind_receive_notification(LOAD, lambda key, sender, kind, params, extra: received.put(params))
        answer = client.post("/api/samp", params={"named": "100"})
        assert answer.json() == {"received_by": ["TOPCAT"]}
        url = received.get(timeout=10)["url"]
    finally:
        topcat.disconnect()
        hub.stop()
    assert url.startswith("http://127.0.0.1:80/samp/")
    assert len(Table.read(BytesIO(client.get(url).content), format="votable")) == 11
    assert client.get("/samp/guessed.vot").status_code == 404
