"""A table reaches another program by SAMP; without a hub, or without such a program, the message says so."""

from pathlib import Path
from queue import Queue

import pytest
from astropy import samp

from hubblefork.errors import SampError
from hubblefork.gallery.downloads import LOAD, send_table


@pytest.fixture
def lockfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'samp').as_uri()}")
    return tmp_path / "samp"


def test_a_table_is_received(lockfile: Path) -> None:
    hub = samp.SAMPHubServer(lockfile=str(lockfile), web_profile=False, addr="127.0.0.1")
    hub.start()
    topcat = samp.SAMPIntegratedClient(metadata={"samp.name": "TOPCAT"}, addr="127.0.0.1")
    received: Queue[dict] = Queue()
    try:
        topcat.connect()
        with pytest.raises(SampError, match="no program takes tables"):
            send_table("http://127.0.0.1:1/a.vot", "a", "spirals")
        topcat.bind_receive_notification(
            LOAD, lambda key, sender, kind, parameters, extra: received.put(parameters)
        )
        assert send_table("http://127.0.0.1:1/a.vot", "a", "spirals") == ["TOPCAT"]
        parameters = received.get(timeout=10)
        assert parameters == {"url": "http://127.0.0.1:1/a.vot", "table-id": "a", "name": "spirals"}
    finally:
        topcat.disconnect()
        hub.stop()


def test_without_a_hub_the_message_says_what_to_start(lockfile: Path) -> None:
    with pytest.raises(SampError, match="start TOPCAT or Aladin"):
        send_table("http://127.0.0.1:1/a.vot", "a", "spirals")
    lockfile.write_text("samp.secret=1\nsamp.hub.xmlrpc.url=http://127.0.0.1:9/\nsamp.profile.version=1.3\n")
    with pytest.raises(SampError, match="no SAMP hub answers"):
        send_table("http://127.0.0.1:1/a.vot", "a", "spirals")
