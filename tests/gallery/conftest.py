"""A small catalogue with images and votes, its gallery as an application, and as a process with a browser."""

import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg

from hubblefork.tables.catalogue import with_fractions, with_metadata, write_catalogue
from hubblefork.zoo import to_joint

GALAXIES = 620
WITHOUT_IMAGE = "1007"


@dataclass(frozen=True)
class Files:
    """A catalogue, its images, the volunteers' votes; `joint` and `votes` (galaxy, answer) are their rows."""

    catalogue: Path
    images: Path
    labels: Path
    joint: np.ndarray
    votes: np.ndarray

    @property
    def folder(self) -> Path:
        return self.catalogue.parent


def fractions(tree, rng, galaxies):
    shares = [rng.dirichlet(np.full(len(q.answers), 0.6), galaxies) for q in tree.questions]
    return to_joint(tree, np.hstack(shares)).astype(np.float32)


@pytest.fixture(scope="session")
def files(tmp_path_factory, tree) -> Files:
    folder, rng = tmp_path_factory.mktemp("gallery"), np.random.default_rng(3)
    joint, votes = fractions(tree, rng, GALAXIES), fractions(tree, rng, GALAXIES)
    ids = pa.array(range(1000, 1000 + GALAXIES))
    redshift = pa.array(rng.uniform(0.01, 0.2, GALAXIES))
    ends = {
        "merger_low": joint[:, tree.column("merger")] * 0.5,
        "merger_high": joint[:, tree.column("merger")],
    }
    places = {"ra": rng.uniform(0, 360, GALAXIES), "dec": rng.uniform(-20, 60, GALAXIES)}
    beside = {name: pa.array(values) for name, values in {**places, **ends}.items()}
    table = with_fractions(pa.table({"galaxy_id": ids, "redshift": redshift, **beside}), joint, tree)
    write_catalogue(with_metadata(table, {"tree": tree.name}), folder / "sky.parquet")
    write_catalogue(with_fractions(pa.table({"galaxy_id": ids}), votes, tree), folder / "votes.csv")
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for galaxy_id in ids.to_pylist():
            if str(galaxy_id) != WITHOUT_IMAGE:
                archive.writestr(f"sky/{galaxy_id}.jpg", image(rng))
    return Files(folder / "sky.parquet", folder / "images.zip", folder / "votes.csv", joint, votes)


def image(rng, side=96) -> bytes:
    y, x = np.mgrid[:side, :side] - side / 2
    size, flat = rng.uniform(5, 15), rng.uniform(0.4, 1)
    light = 255 * np.exp(-np.hypot(x, y / flat) / size)
    pixels = np.clip(light[..., None] * rng.uniform(0.4, 1, 3) + rng.uniform(0, 9, (side, side, 3)), 0, 255)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels.astype(np.uint8)), quality=90)


@pytest.fixture
def client(files):
    from fastapi.testclient import TestClient

    from hubblefork.gallery.gallery import open_gallery
    from hubblefork.gallery.server import create

    gallery = open_gallery(files.catalogue, [files.images], labels=files.labels)
    with TestClient(create(gallery), base_url="http://127.0.0.1") as client:
        yield client


@contextmanager
def served(files, *more):
    """Run the command on a free port; yield the process and its address."""
    command = [sys.executable, "-m", "hubblefork", "gallery", files.catalogue, "--images", files.images]
    command += ["--labels", files.labels, "--port", "0", "--no-browse", *more]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True, bufsize=1)
    try:
        yield process, process.stdout.readline().split()[0].rstrip("/")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def address(files):
    with served(files) as (_, address):
        yield address


@pytest.fixture(scope="session")
def chromium():
    """A browser; the test is skipped where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if program is None:
        pytest.skip("no chromium on this machine: apt install chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)  # the machine may be busy
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def screen(chromium):
    """Return a page in a browser of that size; the test fails where the page reports an error."""
    faults, contexts = [], []

    def opened(width=1280, height=860, **settings):
        context = chromium.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if is_fault(message) else None)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


def is_fault(message) -> bool:
    """Whether a page reports an error; Plotly tries to write styles, which the policy forbids it."""
    expected = "the server responded with a status of 40" in message.text or (
        "Applying inline style" in message.text and message.location["url"].endswith("/plotly.js")
    )
    return message.type == "error" and not expected
