"""The gallery as a process: endpoints, static files, errors; on loopback unless told otherwise."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable
from importlib import resources
from threading import Timer

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from hubblefork.errors import BusyError, HubbleforkError, ImageError
from hubblefork.gallery import browse as pages
from hubblefork.gallery import downloads, marking
from hubblefork.gallery.gallery import Gallery
from hubblefork.gallery.guard import Guard, is_loopback, new_token
from hubblefork.gallery.likeness import NotSeen

HOST, PORT, PORTS = "127.0.0.1", 8600, 20
STATIC = resources.files("hubblefork.gallery") / "static"


def create(gallery: Gallery, token: str = "") -> FastAPI:
    """Return the application that shows a gallery, to those who have the token if there is one."""
    app = FastAPI(title="hubblefork gallery", docs_url=None, redoc_url=None)
    app.state.gallery = gallery
    gallery.likeness.resume()
    app.add_middleware(Guard, token=token)
    app.mount("/static", StaticFiles(directory=str(STATIC)), name="static")
    app.add_exception_handler(HubbleforkError, _refused)
    for part in (pages, marking, downloads):
        app.include_router(part.router)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """Answer what a request cannot have with the reason."""
    status = 404 if isinstance(error, ImageError) and request.method == "GET" else 400
    needs = {"needs": "features"} if isinstance(error, NotSeen) else {}
    return JSONResponse({"error": str(error), **needs}, status)


def serve(
    gallery: Gallery, *, host: str = HOST, port: int = PORT, browse: bool = True, say: Callable[[str], None]
) -> None:
    """Serve a gallery until it is interrupted, and say at which address. Raises BusyError.

    Beyond loopback the address holds a token, and nobody sees anything without it. Where `port` is the
    default and another process has it, one of the next is taken.
    """
    listening = _listening(host, port)
    token = "" if is_loopback(host) else new_token()
    address = f"http://{host}:{listening.getsockname()[1]}/{f'?token={token}' if token else ''}"
    say(f"{address}  (Ctrl-C ends it)")
    if browse:
        Timer(0.3, webbrowser.open, [address]).start()
    config = uvicorn.Config(create(gallery, token), log_level="warning", server_header=False)
    uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    fault: OSError | None = None
    for attempt in range(port, port + (PORTS if port == PORT else 1)):
        try:
            listening = socket.create_server((host, attempt))
        except OSError as error:
            fault = error
        else:
            # An answer is a head and a body: without this the body waits 40 ms for a receipt of the head.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listening
    raise BusyError(f"port {port} of {host} cannot be used: {fault}; choose another with --port") from fault
