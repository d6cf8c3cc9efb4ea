"""What a person does with the gallery, in a real browser."""

import io

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect

SERIOUS = ("serious", "critical")
COLUMNS = "getComputedStyle(document.querySelector('.wall')).gridTemplateColumns.split(' ').length"
pytestmark = pytest.mark.usefixtures("chromium")


def counted(page) -> int:
    return int(page.locator("[data-count]").inner_text().replace(",", ""))


def test_a_slider_and_its_link_select_the_same(screen, address, files, tree):
    page = screen()
    page.goto(address)
    expect(page.locator("[data-count]")).to_have_text("620")
    handle = page.get_by_label("smooth, at least")
    handle.focus()
    for _ in range(10):
        page.keyboard.press("PageUp")
    expect(page.locator("[data-count]")).not_to_have_text("620")
    page.wait_for_url("**/?f=smooth**")
    low = float(page.url.split("smooth%3A")[1].split("%3A")[0])
    held = files.joint[:, tree.column("smooth")] >= np.float32(low)
    expect(page.locator("[data-count]")).to_have_text(str(held.sum()))
    link = page.url
    other = screen()
    other.goto(link)
    expect(other.locator("[data-count]")).to_have_text(str(held.sum()))
    expect(other.locator("[data-chips] button")).to_have_text(f"smooth ≥ {low:g}")
    other.locator("[data-chips] button").click()
    expect(other.locator("[data-count]")).to_have_text("620")
    other.go_back()
    expect(other.locator("[data-count]")).to_have_text(str(held.sum()))


def test_five_hundred_galaxies_load_as_one_scrolls(screen, address):
    page = screen()
    page.goto(address)
    page.wait_for_selector(".tile")
    for _ in range(400):
        page.mouse.wheel(0, 4000)
        if page.locator(".tile").count() >= 500:
            break
        page.wait_for_timeout(50)
    ids = page.locator(".tile").evaluate_all("tiles => tiles.map(tile => tile.dataset.id)")
    assert len(ids) >= 500 and ids[:500] == [str(number) for number in range(1000, 1500)]
    page.locator(".tile").nth(480).scroll_into_view_if_needed()
    expect(page.locator(".tile").nth(480).locator("img")).not_to_have_class("waiting")


def test_a_galaxy_opens_and_the_way_back_leads_to_the_same_wall(screen, address, files, tree):
    page = screen()
    page.goto(f"{address}/?sort=-spiral&f=merger:0:1")
    first, second = np.argsort(-files.joint[:, tree.column("spiral")], kind="stable")[:2] + 1000
    page.locator(".tile a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(str(first))
    page.locator("[data-step='1'][href*='/galaxy/']").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(str(second))
    page.get_by_text("all galaxies").click()
    expect(page.locator(".tile").first).to_have_attribute("data-id", str(first))
    expect(page.locator("[data-sort]")).to_have_value("-spiral")


def test_a_typed_condition_selects_and_a_wrong_one_says_why(screen, address, files, tree):
    page = screen()
    page.goto(address)
    page.get_by_label("Condition on fractions").fill("spiral > 0.3 & barred > 0.1")
    page.keyboard.press("Enter")
    columns = [files.joint[:, tree.column(name)] for name in ("spiral", "barred")]
    expect(page.locator("[data-count]")).to_have_text(str(((columns[0] > 0.3) & (columns[1] > 0.1)).sum()))
    page.get_by_label("Condition on fractions").fill("spirl > 0.3")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text('did you mean "spiral"?')


def test_an_answer_has_one_wording_and_conditions_its_column(screen, address):
    page = screen()
    page.goto(f"{address}/?f=arms_tight~:0:0.9&f=volunteers.arms_tight:0:1")
    chips = page.locator("[data-chips] button")
    expect(chips).to_have_text(["tight arms (of asked) 0 to 0.9", "volunteers of tight arms 0 to 1"])
    expect(page.locator("[data-sort] option[value='-arms_tight']")).to_have_text("tight arms")
    expect(page.locator("#answers option[value='arms_tight']")).to_have_attribute("label", "tight arms")
    expect(page.locator("body")).not_to_contain_text("arms tight")


def test_a_lasso_round_a_cloud_of_galaxies_selects_them(screen, address):
    page = screen()
    page.goto(address)
    page.get_by_role("button", name="Plot").click()
    box = page.locator(".plot-area .nsewdrag").bounding_box()
    corners = [(0.05, 0.1), (0.6, 0.1), (0.6, 0.98), (0.05, 0.98), (0.05, 0.1)]
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=8)
    page.mouse.up()
    expect(page.locator("[data-chips] button")).to_contain_text("region of")
    expect(page.locator("[data-count]")).not_to_have_text("620")
    assert 0 < counted(page) < 620


def test_the_plot_is_opened_before_the_wall_is_there(screen, address):
    page, held = screen(), []
    page.route("**/api/**", lambda request: held.append(request) if not held else request.continue_())
    page.goto(address)
    page.get_by_role("button", name="Plot").click()
    held[0].continue_()
    expect(page.locator(".plot-area .nsewdrag")).to_be_visible()


def test_a_dropped_image_gets_its_tree(screen, address, tmp_path):
    page, place = screen(), tmp_path / "dropped.jpg"
    pixels, encoded = np.random.default_rng(0).integers(0, 255, (424, 424, 3), np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG")
    place.write_bytes(encoded.getvalue())
    page.goto(address)
    page.wait_for_selector(".tile")
    page.evaluate(
        """bytes => { const held = new DataTransfer();
        held.items.add(new File([new Uint8Array(bytes)], "dropped.jpg", { type: "image/jpeg" }));
        dispatchEvent(new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true })); }""",
        list(encoded.getvalue()),
    )
    expect(page.locator("dialog .fractions tbody tr")).to_have_count(14)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("dialog[open]")).to_have_count(0)


def test_all_is_reached_by_the_keyboard(screen, address):
    page = screen()
    page.goto(address)
    page.wait_for_selector(".tile")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the galaxies")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("/")
    expect(page.get_by_label("Condition on fractions")).to_be_focused()
    page.locator(".tile a").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    row = page.evaluate("document.activeElement.closest('.tile').dataset.row")
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('.wall')).gridTemplateColumns.split(' ').length"
    )
    assert int(row) == 1 + columns
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(str(1001 + columns))
    page.wait_for_load_state()
    page.keyboard.press("Escape")
    page.wait_for_selector(".tile")


def test_a_phone_shows_two_columns_and_nothing_is_wider_than_it(screen, address):
    page = screen(390, 844, device_scale_factor=2, is_mobile=True, has_touch=True)
    page.goto(address)
    page.wait_for_selector(".tile")
    tops = page.locator(".tile").evaluate_all("tiles => tiles.map(tile => tile.offsetTop)")
    assert tops.count(tops[0]) == 2
    page.get_by_role("button", name="Filters").tap()
    expect(page.get_by_label("smooth, at least")).to_be_visible()
    save, wall = (page.locator(place).bounding_box() for place in (".menu > summary", ".wall"))
    assert save["y"] + save["height"] < wall["y"]
    for where in ("/", "/galaxy/1003", "/compare"):
        page.goto(address + where)
        assert page.locator("[data-theme]").last.bounding_box()["x"] > 340
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("where", ["/?f=spiral:0.1:", "/?x=spiral&y=barred", "/galaxy/1003"])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_screen_readers_find_no_serious_fault(screen, address, where, scheme):

    page = screen(color_scheme=scheme)
    page.goto(address + where)
    page.wait_for_selector(".tile, .galaxy")
    page.wait_for_timeout(300)
    found = Axe().run(page).response["violations"]
    serious = {
        fault["id"]: fault["nodes"][0]["html"]
        for fault in found
        if fault["impact"] in ("serious", "critical")
    }
    assert serious == {}
