"""The page at ``/docs``, in a real browser in front of a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.edge_server.api.conftest import as_object, post
from tests.support import EXAMPLES, ROOT

PAGES = ROOT / "edge_server" / "console"
PICTURE = EXAMPLES / "inspection-1.jpg"
# Chromium's own calls home are off: each would be refused, one by one.
OFFLINE = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
SCHEMA = "#/components/schemas/"
HOSTILE = {
    "info": {"title": "<img src=x onerror=alert(1)>", "version": "1"},
    "components": {
        "schemas": {
            "Endless": {"type": "object", "properties": {"more": {"$ref": f"{SCHEMA}Endless"}}},
            "Circle": {"$ref": f"{SCHEMA}Circle"},
        }
    },
    "paths": {
        "/odd/{id}": {
            "post": {
                "summary": "<script>alert(1)</script>",
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "tensor"}},
                    {"name": "void", "in": "query"},
                    {"$ref": "#/nowhere"},
                ],
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": f"{SCHEMA}Endless"}},
                        "application/x-new": {},
                    }
                },
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"not": {}, "if": True}}}},
                    "5XX": {"content": {"text/odd": {"schema": {"$ref": f"{SCHEMA}Circle"}}}},
                    "default": {"$ref": "#/nowhere"},
                },
            }
        },
        "/broken": {"get": {"parameters": "none", "responses": 7, "tags": 1}},
        "/plain": {"get": {}},
    },
}


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Headless Chromium from the system."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium here (on Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=OFFLINE)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, server: str) -> Iterator:
    """The page, loaded, with the errors in ``page.complaints``, whom it asked in ``page.hosts``."""
    context = browser.new_context(base_url=server, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.complaints, page.hosts = [], set()
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "console",
        lambda said: said.type in ("error", "warning") and page.complaints.append(said.text),
    )
    page.on("request", lambda request: page.hosts.add(urlsplit(request.url).netloc))
    page.goto("/docs")
    page.locator("main[aria-busy=false]").wait_for()
    yield page
    context.close()


def opened(page, operation_id: str):
    """The operation's part of the page, with its details shown."""
    operation = page.locator(f"[id='{operation_id}']")
    operation.locator("summary").first.click()
    return operation


def open_everything(page) -> None:
    """Open what is folded, and what is folded in that."""
    for _ in range(4):
        page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
        page.wait_for_timeout(100)


def sent(operation):
    """The answer that the page shows after Send."""
    operation.get_by_role("button", name="Send").click()
    operation.get_by_role("status").wait_for()
    return operation.locator(".result")


def shown_json(answer) -> dict:
    return json.loads(answer.get_by_label("Answer", exact=True).inner_text())


@pytest.fixture(scope="module")
def predictions(server: str) -> int:
    """How many parts the demo model finds in the picture, asked without the page."""
    image = as_object(PICTURE.read_bytes())
    answer = post(f"{server}/infer/object_detection", {"model_id": "demo-parts/1", "image": image})
    count = len(answer.json["predictions"])
    assert count > 1
    return count


def test_lists_every_operation_and_asks_no_other_host(page, server: str):
    with urllib.request.urlopen(f"{server}/openapi.json", timeout=30) as response:
        paths = json.load(response)["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    rows = page.locator("details.operation > summary")
    listed = [
        (rows.nth(at).locator(".method").inner_text(), rows.nth(at).locator("h3").inner_text())
        for at in range(rows.count())
    ]
    assert len(listed) == len(described)
    assert set(listed) == described
    assert page.locator("h2").first.inner_text().lower() == "inference"
    assert page.complaints == []
    assert page.hosts == {urlsplit(server).netloc}


def test_every_operation_opens_without_complaint(page):
    operations = page.locator("details.operation")
    for at in range(operations.count()):
        operations.nth(at).locator("summary").first.click()
        operations.nth(at).get_by_role("button", name="Send").wait_for()
    open_everything(page)
    assert page.get_by_text("How sure the model is of one class").count() > 0
    assert "cannot be shown" not in page.locator("main").inner_text()
    assert page.complaints == []


def test_sends_a_picture_and_shows_every_prediction(page, predictions: int):
    operation = opened(page, "post_infer_object_detection")
    operation.locator("input[type=file]").set_input_files(PICTURE)
    body = operation.get_by_label("Body")
    assert "<inspection-1.jpg, " in body.input_value()
    assert len(body.input_value()) < 500
    answer = sent(operation)
    assert "200" in answer.inner_text()
    assert f"{predictions} predictions" in answer.inner_text()
    assert len(shown_json(answer)["predictions"]) == predictions
    assert page.complaints == []


def test_what_the_page_calls_curl_gives_the_same_answer(page, tmp_path: Path, predictions: int):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed (on Debian: apt install curl)")
    picture = shutil.copy(PICTURE, tmp_path / "it's a $PART.jpg")
    operation = opened(page, "post_infer_object_detection")
    operation.locator("input[type=file]").set_input_files(picture)
    command = operation.get_by_label("The same call with curl").inner_text()
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=True)
    assert len(json.loads(done.stdout)["predictions"]) == predictions


@pytest.mark.parametrize("media_type", ["image/jpeg", "text/plain", "multipart/form-data"])
def test_older_route_takes_the_picture_as(page, media_type: str, predictions: int):
    operation = opened(page, "post_project_version")
    operation.locator("input[type=file]").set_input_files(PICTURE)
    operation.get_by_label("Body as").select_option(media_type)
    assert f"{predictions} predictions" in sent(operation).inner_text()


def test_shows_the_annotated_picture(page):
    operation = opened(page, "post_project_version")
    operation.get_by_text("Optional parameters").click()
    operation.get_by_label("format query", exact=True).fill("image")
    operation.locator("input[type=file]").set_input_files(PICTURE)
    operation.get_by_label("Body as").select_option("multipart/form-data")
    shown = sent(operation).get_by_role("img")
    page.wait_for_function("image => image.naturalWidth > 0", arg=shown.element_handle())
    assert shown.evaluate("image => image.naturalWidth") == 1280
    assert page.complaints == []


def test_shows_why_the_server_refused(page):
    operation = opened(page, "post_model_add")
    operation.get_by_label("Body").fill('{"model_id": "no-such-model/1"}')
    reason = sent(operation).get_by_role("alert").inner_text()
    assert "no-such-model/1" in reason


def test_says_that_the_picture_is_missing_instead_of_sending(page):
    operation = opened(page, "post_infer_object_detection")
    operation.get_by_role("button", name="Send").click()
    assert "Choose a picture first" in operation.get_by_role("alert").inner_text()


def test_sends_only_what_was_changed_and_the_key_as_a_header(page):
    page.get_by_label("Key").fill("a-key")
    operation = opened(page, "get_project_version")
    operation.get_by_text("Optional parameters").click()
    operation.locator("[data-name=confidence]").fill("0.7")
    with page.expect_request("**/demo-parts/1*") as asked:
        sent(operation)
    assert asked.value.url.endswith("/demo-parts/1?confidence=0.7")
    assert asked.value.headers["authorization"] == "Bearer a-key"
    assert "a-key" not in operation.get_by_label("The same call with curl").inner_text()


def test_asks_before_it_destroys(page):
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    operation = opened(page, "post_model_clear")
    operation.get_by_role("button", name="Send").click()
    assert len(asked) == 1
    assert "unloads every model" in asked[0]


def test_works_from_the_keyboard(page):
    page.locator("[id='get_info'] > summary").focus()
    page.keyboard.press("Enter")
    page.locator("[id='get_info'] .try").wait_for()
    while page.evaluate("document.activeElement.textContent") != "Send":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("[id='get_info']").get_by_role("status").inner_text().startswith("200")


def test_a_strange_description_is_shown_as_text(page):
    page.route("**/openapi.json", lambda route: route.fulfill(json=HOSTILE))
    page.goto("/docs?")
    page.locator("main[aria-busy=false]").wait_for()
    main = page.locator("main")
    assert "<img src=x onerror=alert(1)>" in main.inner_text()
    assert main.locator("img, script").count() == 0
    assert main.get_by_text("/plain").is_visible()
    operation = opened(page, "post/odd/{id}")
    assert "tensor" in operation.inner_text()
    assert operation.get_by_role("button", name="Send").is_visible()
    assert page.complaints == []


def test_says_why_there_is_no_description(page):
    refusal = {"message": "This server asks for a key."}
    page.route("**/openapi.json", lambda route: route.fulfill(status=401, json=refusal))
    page.reload()
    assert "asks for a key" in page.get_by_role("alert").inner_text()
    page.unroute("**/openapi.json")
    page.get_by_role("button", name="Try again").click()
    page.locator("details.operation").first.wait_for()


@pytest.mark.parametrize("size", [(390, 844), (1440, 900)], ids=["phone", "desk"])
def test_nothing_is_wider_than_the_screen(page, size: tuple[int, int]):
    page.set_viewport_size({"width": size[0], "height": size[1]})
    open_everything(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_pages_are_small_and_hold_nothing_inline_or_from_elsewhere():
    files = {path.name: path.read_text(encoding="utf-8") for path in PAGES.iterdir()}
    parts = ("docs.html", "docs.js", "page.js", "page.css")
    assert sum(len(files[name].encode()) for name in parts) < 40_000
    for name, text in files.items():
        # An SVG's namespace is a name, nobody fetches it.
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text)) - {"http://www.w3.org"}
        assert not addresses, name
        assert "innerHTML" not in text, name
        if name.endswith(".html"):
            assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text), name
            assert not re.search(r"<script(?![^>]*\ssrc=)", text), name
