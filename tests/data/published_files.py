"""A host of published files on this machine: it knows ranges, and misbehaves on demand."""

import gzip
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Host:
    """What it has, what it was asked, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    ranges: bool = True
    etags: bool = True
    lengths: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes of each next answer's body, then it hangs up
    statuses: list[int] = field(default_factory=list)  # of each next answer, instead of the file
    wrong_part: bool = False
    weak: bool = False  # its ETags promise likeness only
    compresses: bool = False  # on the way, for those who do not mind
    silent_for: float = 0  # seconds between an answer's headers and its body
    headers: dict[str, str] = field(default_factory=dict)
    dealt: dict[str, list[str]] = field(default_factory=dict)  # addresses to send the next askers on to

    def md5(self, name: str) -> str:
        return "md5:" + hashlib.md5(self.files[name]).hexdigest()


class _Answers(BaseHTTPRequestHandler):
    host: Host

    def do_GET(self) -> None:
        host, name = self.host, self.path.split("?")[0].lstrip("/")
        host.asked.append((self.command, name, self.headers.get("Range")))
        if host.dealt.get(name):
            self.send_response(302)
            self.send_header("Location", host.dealt[name].pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif host.statuses:
            self.send_error(host.statuses.pop(0))
        elif name not in host.files:
            self.send_error(404)
        else:
            self._send(host.files[name])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def _send(self, content: bytes) -> None:
        host, etag = self.host, f'"{hashlib.md5(content).hexdigest()}"'
        etag = "W/" + etag if host.weak else etag
        compressed = host.compresses and "gzip" in self.headers.get("Accept-Encoding", "")
        content = gzip.compress(content) if compressed else content
        start = self._start(etag)
        if start is not None and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start or 0 :]
        self.send_response(200 if start is None else 206)
        if start is not None:
            shown = start + 1 if host.wrong_part else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        if host.lengths:
            self.send_header("Content-Length", str(len(body)))
        if host.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if host.etags:
            self.send_header("ETag", etag)
        if compressed:
            self.send_header("Content-Encoding", "gzip")
        for name, value in host.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        silence, host.silent_for = host.silent_for, 0
        time.sleep(silence)
        with suppress(ConnectionError):
            self._send_body(body)

    def _send_body(self, body: bytes) -> None:
        host = self.host
        self.wfile.write(body[: host.cut_after.pop(0)] if host.cut_after else body)
        self.close_connection = True

    def _start(self, etag: str) -> int | None:
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if not asked or not self.host.ranges or (condition and condition != etag):
            return None
        if condition and condition.startswith("W/"):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def published(**files: bytes) -> Iterator[Host]:
    host = Host({name.replace("__", "."): content for name, content in files.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"host": host}))
    host.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
