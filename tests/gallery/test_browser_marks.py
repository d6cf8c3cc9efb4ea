"""Marks by the keyboard in a real browser; they survive a reload and a kill of the gallery."""

import signal

import pyarrow.csv
import pytest
from playwright.sync_api import expect
from tests.gallery.conftest import served


@pytest.fixture(autouse=True)
def without_marks(files):
    yield
    for path in (files.folder / "sky.parquet.gallery").glob("marks.*"):
        path.unlink()


def test_stars_tags_and_answers_by_key_survive_a_kill(screen, files, client):
    page = screen()
    with served(files) as (process, address):
        page.goto(address)
        page.locator(".tile a").nth(2).focus()
        page.keyboard.press("s")
        expect(page.locator(".tile").nth(2).locator(".marks")).to_have_text("★")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("t")
        page.keyboard.type("blue lens")
        page.keyboard.press("Enter")
        expect(page.locator(".tile").nth(3).locator(".marks")).to_have_text("blue lens")
        page.locator("summary", has_text="Marks").click()
        page.get_by_role("button", name="blue lens").click()
        expect(page.locator("[data-count]")).to_have_text("1")
        page.locator(".tile a").click()
        expect(page.locator("legend")).to_contain_text("smooth and rounded")
        page.keyboard.type("21")
        expect(page.locator("legend")).to_contain_text("bulge at its centre")
        page.keyboard.press("u")
        expect(page.locator("legend")).to_contain_text("edge-on")
        expect(page.locator("[data-question]")).to_contain_text("You said: features or disk.")
        page.close()
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = client.get("/api/marks", params={"of": ["1002", "1003"]}).json()
    assert [(mark["galaxy_id"], mark["value"]) for mark in kept] == [
        ("1002", "starred"),
        ("1003", "blue lens"),
        ("1003", "features_or_disk"),
    ]


def test_a_selection_is_saved_from_the_menu(screen, address, tree, files):
    page = screen()
    page.goto(f"{address}/?f=spiral:0.3:&sort=-spiral")
    expect(page.locator("[data-count]")).not_to_have_text("…")
    selected = int(page.locator("[data-count]").inner_text())
    page.locator("summary", has_text="Save").click()
    with page.expect_download() as saved:
        page.get_by_text("Selection as CSV").click()
    table = pyarrow.csv.read_csv(saved.value.path())
    assert len(table) == selected < 620
    assert table.column("spiral").to_pylist() == sorted(table.column("spiral").to_pylist(), reverse=True)


def test_fractions_are_hidden_until_the_last_question_is_answered(screen, address):
    page = screen()
    page.goto(f"{address}/galaxy/1005")
    fractions = page.get_by_label("Vote fractions")
    expect(fractions).to_be_visible()
    page.get_by_role("button", name="Answer unseen").click()
    expect(fractions).to_be_hidden()
    page.reload()
    expect(fractions).to_be_hidden()
    expect(page.locator("legend")).to_contain_text("smooth and rounded")
    for _ in range(12):
        if page.get_by_text("That was the last question").is_visible():
            break
        said = page.locator("[data-question]").inner_text()
        page.keyboard.press("1")
        expect(page.locator("[data-question]")).not_to_have_text(said, use_inner_text=True)
        if page.get_by_role("button", name="done").is_visible():
            page.keyboard.press("Enter")
    expect(fractions).to_be_visible()
    page.get_by_role("button", name="Answer unseen").click()
