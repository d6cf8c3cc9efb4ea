"""Tables to other programs on this machine, TOPCAT and Aladin first, by SAMP of the IVOA.

A message names the address of a VOTable; who takes it reads the table from there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hubblefork import __version__
from hubblefork.errors import SampError

LOAD = "table.load.votable"


def send_table(url: str, table_id: str, name: str) -> list[str]:
    """Tell every program that takes tables where a VOTable is; return the names of these programs.

    `url` is an address on this machine, `table_id` tells the table from others, `name` is shown to people.
    Raises SampError where no hub runs, or no program in it takes tables.
    """
    with _hub() as client:
        takers = [_name(client, taker) for taker in client.get_subscribed_clients(LOAD)]
        if not takers:
            raise SampError(
                "no program takes tables by SAMP: start TOPCAT or Aladin, and send the table again"
            )
        parameters = {"url": url, "table-id": table_id, "name": name}
        client.notify_all({"samp.mtype": LOAD, "samp.params": parameters})
        return sorted(takers)


@contextmanager
def _hub() -> Iterator[Any]:
    """Give a client of the running hub. Raises SampError without one, or where it does not answer."""
    from astropy.utils.exceptions import AstropyDeprecationWarning

    with warnings.catch_warnings(action="ignore", category=AstropyDeprecationWarning):  # pyvo.samp is newer
        from astropy import samp

    description = {"samp.name": "hubblefork", "samp.description.text": "the gallery of a catalogue"}
    client = samp.SAMPIntegratedClient(
        metadata=description | {"hubblefork.version": __version__}, callable=False
    )
    with samp.conf.set_temp("use_internet", False):
        try:
            client.connect()
            try:
                yield client
            finally:
                client.disconnect()
        except (samp.SAMPHubError, samp.SAMPProxyError, OSError) as error:
            raise SampError(
                f"no SAMP hub answers ({error}): start TOPCAT or Aladin on the machine of the gallery, "
                "and send the table again"
            ) from error


def _name(client: Any, taker: str) -> str:
    return str(client.get_metadata(taker).get("samp.name", taker))
