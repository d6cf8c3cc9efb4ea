"""The gallery as a process: on loopback unless told otherwise, opened in the browser."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable
from threading import Timer

import uvicorn
from fastapi import FastAPI

from hubblefork.errors import BusyError

HOST, PORT, PORTS = "127.0.0.1", 8600, 20


def serve(
    app: FastAPI, *, host: str = HOST, port: int = PORT, browse: bool = True, say: Callable[[str], None]
) -> None:
    """Serve an application until it is interrupted, and say at which address. Raises BusyError.

    Where `port` is the default and another process has it, one of the next is taken.
    """
    listening = _listening(host, port)
    address = f"http://{host}:{listening.getsockname()[1]}/"
    say(f"{address}  (Ctrl-C ends it)")
    if browse:
        Timer(0.3, webbrowser.open, [address]).start()
    config = uvicorn.Config(app, log_level="warning", server_header=False)
    uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    fault: OSError | None = None
    for attempt in range(port, port + (PORTS if port == PORT else 1)):
        try:
            return socket.create_server((host, attempt))
        except OSError as error:
            fault = error
    raise BusyError(f"port {port} of {host} cannot be used: {fault}; choose another with --port") from fault
