"""The door of the gallery: other names, other sites, who has no token and large bodies stay outside."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request, UploadFile
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from hubblefork.gallery.server import Guard, is_loopback, new_token

HOME = "http://127.0.0.1:8000"


def guarded(home: str = HOME, **settings: Any) -> TestClient:
    app = FastAPI()

    @app.api_route("/page", methods=["GET", "POST"])
    def page() -> PlainTextResponse:
        return PlainTextResponse("seen")

    @app.post("/upload")
    async def upload(file: UploadFile) -> int:
        return len(await file.read())

    @app.post("/stream")
    async def stream(request: Request) -> int:
        return sum([len(part) async for part in request.stream()])

    return TestClient(Guard(app, **settings), base_url=home)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:8000", 200), ("LOCALHOST:9", 200)),
        *(("evil.example:8000", 421), ("127.0.0.1.evil.example", 421), ("localhost@evil", 421), ("", 421)),
    ],
)
def test_without_a_token_only_loopback_names_are_answered(host: str, status: int) -> None:
    assert guarded().get("/page", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("name", "own"), [("127.8.8.8", True), ("::1", True), ("0.0.0.0", False), ("localhost.example", False)]
)
def test_loopback_is_told_by_its_spelling(name: str, own: bool) -> None:
    assert is_loopback(name) is own


CROSS = {"sec-fetch-site": "cross-site"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 200),
        ("POST", {"origin": HOME, "sec-fetch-site": "same-origin"}, 200),
        ("POST", {"origin": HOME.replace("8000", "8001")}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", {"origin": "https://evil.example"}, 403),
        ("POST", {"origin": HOME, "sec-fetch-site": "same-site"}, 403),
        ("POST", {**CROSS, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 403),
        ("GET", CROSS, 403),
        ("GET", {**CROSS, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        ("GET", {**CROSS, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        ("GET", {**CROSS, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
    ],
)
def test_other_sites_may_only_open_a_page(method: str, headers: dict[str, str], status: int) -> None:
    assert guarded().request(method, "/page", headers=headers).status_code == status


def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_have() -> None:
    token = new_token()
    browser = guarded("http://sky.example:8000", token=token)
    assert browser.get("/page").status_code == 401
    assert browser.get("/page", params={"token": token[:-1]}).status_code == 401
    assert browser.post("/page", params={"token": token}).status_code == 401
    opened = browser.get("/page", params={"token": token, "q": '"><b>', "f": "1"})
    assert re.findall('url=(.*?)"', opened.text) == ["/page?q=%22%3E%3Cb%3E&amp;f=1"]
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert browser.get("/page").text == "seen"
    program = guarded("http://sky.example:8000", token=token)
    assert program.post("/page", headers={"authorization": f"Bearer {token}"}).text == "seen"


def test_the_page_behind_the_token_is_one_of_the_gallery() -> None:
    opened = guarded(token="secret").get(f"{HOME}//evil.example/?token=secret")
    assert 'url=/evil.example/"' in opened.text


def test_every_answer_says_what_may_be_loaded() -> None:
    for path in ("/page", "/nowhere"):
        headers = guarded().get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    assert guarded().get("/page", headers={"host": "evil"}).headers["x-content-type-options"] == "nosniff"


def chunks(number: int) -> Iterator[bytes]:
    for _ in range(number):
        yield b"x" * 100


def test_bodies_are_counted_as_they_come() -> None:
    small = guarded(largest=1000)
    assert small.post("/stream", content=chunks(10)).json() == 1000
    assert small.post("/stream", content=chunks(11)).status_code == 413
    assert small.post("/stream", content=b"x" * 1001).status_code == 413
    assert small.post("/upload", files={"file": b"x" * 700}).json() == 700
    answer = small.post(
        "/upload", content=chunks(11), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert answer.status_code == 413 and "send less" in answer.text


def test_the_gallery_is_behind_the_door(client: TestClient) -> None:
    assert "script-src 'self'" in client.get("/").headers["content-security-policy"]
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    image = {"images": ("a.jpg", b"")}
    assert client.post("/api/classify", files=image, headers={"origin": "http://evil"}).status_code == 403
