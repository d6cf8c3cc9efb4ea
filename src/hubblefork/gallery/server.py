"""The gallery as a process: on loopback unless told otherwise, and with one door in front of all its routes.

Without a token only requests to a loopback name are answered, so that a page of another site whose name was
pointed at this machine (DNS rebinding) reads nothing. With a token any name is, for those who have it. Other
sites cannot change anything, upload or load anything but a page that is opened (`Sec-Fetch-Site`, `Origin`);
see "Fetch Metadata Request Headers" of the W3C. Bodies are counted as they come.
"""

from __future__ import annotations

import re
import secrets
import socket
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from importlib import resources
from ipaddress import ip_address
from threading import Timer
from urllib.parse import quote, urlencode, urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubblefork.errors import BusyError, HubbleforkError, ImageError
from hubblefork.gallery import browse as pages
from hubblefork.gallery import downloads
from hubblefork.gallery.downloads import SECRET
from hubblefork.gallery.gallery import Gallery
from hubblefork.gallery.likeness import NotSeen

HOST, PORT, PORTS = "127.0.0.1", 8600, 20
STATIC = resources.files("hubblefork.gallery") / "static"
LARGEST = 16 * 2**20
"""Bytes that a request may bring: uploads of images are the largest."""
TOKEN = "token"
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", re.IGNORECASE)
READING = ("GET", "HEAD")
OWN = ("same-origin", "none")
POLICY = {
    "default-src": "'none'",
    "img-src": "'self' data: blob:",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "font-src": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in POLICY.items()),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""What every answer carries. No header allows another site to read (CORS)."""


def create(gallery: Gallery, token: str = "") -> FastAPI:
    """Return the application that shows a gallery, to those who have the token if there is one."""
    app = FastAPI(title="hubblefork gallery", docs_url=None, redoc_url=None)
    app.state.gallery = gallery
    gallery.likeness.resume()
    app.add_middleware(Guard, token=token)
    app.mount("/static", StaticFiles(directory=str(STATIC)), name="static")
    app.add_exception_handler(HubbleforkError, _refused)
    for part in (pages, downloads):
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


# Who may ask


def new_token() -> str:
    """Return a token that cannot be guessed: 256 random bits."""
    return secrets.token_urlsafe(32)


def is_loopback(name: str) -> bool:
    """Whether a name of a host, or an address, is this machine's own by its spelling."""
    bare = name.lower().removeprefix("[").removesuffix("]")
    try:
        return bare == "localhost" or ip_address(bare).is_loopback
    except ValueError:
        return False


class _TooLarge(Exception):
    """More bytes came than a request may bring."""


@dataclass(frozen=True)
class Guard:
    """An ASGI application that answers with `app` what may be asked, and refuses the rest.

    With a `token`, it is asked for once as `?token=…`, which sets a cookie; programs send it as
    `Authorization: Bearer …`. `largest` are the bytes that a request may bring.
    """

    app: ASGIApp
    token: str = ""
    largest: int = LARGEST

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            dressed = _with_headers(send)
            refusal = self._refusal(scope, Headers(scope=scope))
            if refusal is None:
                await self._answer(scope, receive, dressed)
            else:
                await refusal(scope, receive, dressed)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer to a request that `app` does not see; None where it does."""
        hosts = headers.getlist("host")
        match = AUTHORITY.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if match is None or not (self.token or is_loopback(match[1])):
            return _plain(421, "This gallery answers at 127.0.0.1 and localhost only.")
        if not _is_own(scope["method"], headers, hosts[0]):
            return _plain(403, "Another site may not ask this of the gallery.")
        connection = HTTPConnection(scope)
        secret = scope["path"].startswith(SECRET)
        if self.token and not secret and not self._knows_token(connection):
            return self._opened(connection)
        return None

    def _knows_token(self, connection: HTTPConnection) -> bool:
        sent = connection.headers.get("authorization", "").removeprefix("Bearer ")
        return self._is_token(connection.cookies.get(_cookie_of(connection), "")) or self._is_token(sent)

    def _opened(self, connection: HTTPConnection) -> Response:
        """Give a cookie to who brings the token in the address of a page, and open that page without it.

        A redirect would not carry a SameSite=Strict cookie to who came by a link of another site.
        """
        asked = connection.query_params
        if connection.scope["method"] != "GET" or not self._is_token(asked.get(TOKEN, "")):
            return _plain(401, "This gallery asks for a token: open the address that it printed.")
        rest = urlencode([(name, value) for name, value in asked.multi_items() if name != TOKEN])
        place = "/" + quote(connection.scope["path"].lstrip("/\\")) + ("?" + rest if rest else "")
        page = f'<!doctype html><title>…</title><meta http-equiv="refresh" content="0; url={escape(place)}">'
        opened = HTMLResponse(page)
        secure = connection.url.scheme == "https"
        opened.set_cookie(_cookie_of(connection), self.token, httponly=True, samesite="strict", secure=secure)
        return opened

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode("utf-8", "replace"), self.token.encode())

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with `app`, counting the bytes of the request; its answer to too many is lost."""
        brought, begun, too_large = 0, False, False

        async def counted() -> Message:
            nonlocal brought, too_large
            message = await receive()
            brought += len(message.get("body", b""))
            if brought > self.largest:
                too_large = True
                raise _TooLarge
            return message

        async def unless_too_large(message: Message) -> None:
            nonlocal begun
            if begun or not too_large:
                begun = True
                await send(message)

        try:
            await self.app(scope, counted, unless_too_large)
        except _TooLarge:
            if begun:
                raise
        if too_large and not begun:
            text = f"More than {self.largest / 2**20:g} MiB: send less at a time."
            await _plain(413, text)(scope, receive, send)


def _is_own(method: str, headers: Headers, host: str) -> bool:
    """Whether a request comes from a page of the gallery, from an address that was opened, or from a program.

    Browsers say where a request comes from; other sites may only open a page.
    """
    site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
    if method in READING:
        opened = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
        return site in OWN or opened
    parts = urlsplit(origin or "")
    is_own = parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
    return site in OWN and (origin is None or is_own)


def _cookie_of(connection: HTTPConnection) -> str:
    """Return the name of the cookie: the ports of a machine share theirs, and each may have a gallery."""
    return f"gallery-{(connection.scope.get('server') or ('', ''))[1]}"


def _plain(status: int, text: str) -> Response:
    return PlainTextResponse(f"{text}\n", status_code=status)


def _with_headers(send: Send) -> Send:
    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return dressed
