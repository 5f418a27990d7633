"""The page of `/` in a real browser: Chromium, driven by Playwright."""

import importlib.util
import shutil

import numpy as np
import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        CHROMIUM is None or importlib.util.find_spec("playwright") is None,
        reason="needs the package playwright, and Chromium in the PATH",
    ),
]

LINES = [
    "The harbour is quiet tonight.", "A man repairs a small boat.", "Rain fell on the hills.",
    "The cook tastes the soup.", "Two children fly a kite.", "The old clock stopped at noon.",
    "<b>b</b> & <i>",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, served):
    """The page in a window, with everything that a browser complains about in `page.complaints`."""
    with opened(browser, served[1]) as page:
        yield page


class opened:
    """A window with the page of an address."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.complaints, self.page.asked = [], []
        self.page.on("pageerror", lambda error: self.page.complaints.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", lambda request: self.page.asked.append(request.url))
        self.page.goto(address)

    def _note(self, message):
        # The browser writes a line of its own about each answer that is an error.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.page.complaints.append(message.text)

    def __enter__(self):
        return self.page

    def __exit__(self, *exception):
        self.context.close()


def shows(page, place, text, timeout=30_000):
    """Wait until an element has a text."""
    from playwright.sync_api import expect

    expect(page.locator(place)).to_contain_text(text, timeout=timeout)


def embed(page, lines=LINES):
    page.fill("#texts", "\n".join(lines))
    page.click("#embed")
    shows(page, "#status", f"{len(lines)} texts")


def results(page):
    return page.locator("#results li span:last-child").all_inner_texts()


def test_texts_are_searched_as_the_model_ranks_them(page, served, tiny):
    shows(page, "#server", "tiny")
    embed(page)
    page.fill("#query", "a boat in the harbour")
    page.wait_for_selector("#results li")
    scores = tiny.similarity(
        tiny.encode_query("a boat in the harbour"), tiny.encode_document(LINES)
    )
    order = np.argsort(-np.asarray(scores)[0], kind="stable")
    assert results(page) == [LINES[i] for i in order]
    shown = page.locator("#results .score").all_inner_texts()
    assert [float(score) for score in shown] == pytest.approx(
        np.asarray(scores)[0][order].tolist(), abs=2e-4
    )
    # What was typed is text, and never code.
    assert page.locator("#results b").count() == 0
    # Everything came from the server itself.
    assert page.asked
    assert all(url.startswith((served[1], "data:")) for url in page.asked)
    assert page.complaints == []


def test_a_reranker_orders_the_results(page, tiny_cross):
    embed(page)
    page.fill("#query", "soup")
    page.check("#rerank")
    shows(page, "#found", "Reranked")
    ranks = tiny_cross.predict([("soup", line) for line in LINES])
    assert results(page)[0] == LINES[int(np.argmax(ranks))]
    assert page.complaints == []


def test_the_keyboard_alone_does_it_all(page):
    embed(page)
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("rain")
    page.wait_for_selector("#results li")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    selected = page.locator("#results li[aria-selected=true] span:last-child").inner_text()
    assert selected == results(page)[1]
    assert page.locator("#tip").inner_text() == selected
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tip").inner_text() in LINES


def test_the_map_has_tooltips_and_a_click_selects(page):
    embed(page)
    page.fill("#query", "kite")
    page.wait_for_selector("#results li")
    box = page.locator("#map").bounding_box()
    found = []
    # Look for points from the left to the right.
    for y in np.linspace(box["y"] + 10, box["y"] + box["height"] - 10, 40):
        for x in np.linspace(box["x"] + 10, box["x"] + box["width"] - 10, 40):
            if not found:
                page.mouse.move(x, y)
                if page.locator("#tip").inner_text():
                    found = [x, y]
    text = page.locator("#tip").inner_text()
    assert text in LINES
    page.mouse.click(*found)
    assert page.locator("#results li[aria-selected=true] span:last-child").inner_text() == text
    assert page.evaluate(
        "() => { const c = document.querySelector('#map');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return d.some((value) => value > 0) }"
    )


def test_files_are_read_with_a_choice_of_column(page, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('id,text,note\n1,"a, quoted ""boat""",x\n2,"two\nlines",y\n', encoding="utf8")
    page.set_input_files("#file", file)
    shows(page, "#status", "2 texts of rows.csv")
    page.fill("#query", "boat")
    page.wait_for_selector("#results li")
    assert sorted(results(page)) == ['a, quoted "boat"', "two\nlines".replace("\n", " ")]
    page.select_option("#column", label="note")
    shows(page, "#results", "y")
    assert sorted(results(page)) == ["x", "y"]


def test_a_dropped_file_is_read(page):
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["one\\n\\ntwo\\nthree\\n"], "a.txt", { type: "text/plain" }));
          const drop = new DragEvent("drop", { dataTransfer: data, bubbles: true });
          document.querySelector("#drop").dispatchEvent(drop);
        }"""
    )
    shows(page, "#status", "3 texts of a.txt")


def test_vectors_are_saved(page, tiny, tmp_path):
    embed(page)
    with page.expect_download() as download:
        page.click("#save-vectors")
    download.value.save_as(tmp_path / "vectors.npy")
    vectors = np.load(tmp_path / "vectors.npy")
    expected = tiny.encode_document(LINES, normalize_embeddings=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    with page.expect_download() as download:
        page.click("#save-texts")
    download.value.save_as(tmp_path / "texts.txt")
    assert (tmp_path / "texts.txt").read_text(encoding="utf8").splitlines() == LINES


def test_errors_are_told(page, tmp_path):
    page.click("#embed")
    assert "There is no text" in page.locator("#problem").inner_text()
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    page.set_input_files("#file", tmp_path / "bad.txt")
    shows(page, "#problem", "not UTF-8")
    (tmp_path / "bad.csv").write_text('text\n"open')
    page.set_input_files("#file", tmp_path / "bad.csv")
    shows(page, "#problem", "not closed")
    page.route(
        "**/page/embed", lambda route: route.fulfill(status=413, json={"error": "too large"})
    )
    page.fill("#texts", "a")
    page.click("#embed")
    shows(page, "#problem", "too large")


def test_texts_that_were_cut_are_counted(page):
    embed(page, ["word " * 80, "short"])
    assert "1 are longer than" in page.locator("#status").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(browser, served, scheme):
    options = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme}
    with opened(browser, served[1], **options) as page:
        embed(page)
        page.fill("#query", "boat")
        page.wait_for_selector("#results li")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
        first = int(shade.removeprefix("rgb(").split(",")[0])
        assert (first < 80) == (scheme == "dark")


def test_a_server_with_keys_asks_for_one(browser, tiny):
    from tests.serve.conftest import running

    with (
        running({"tiny": tiny}, keys=("secret-1",)) as (_, address),
        opened(browser, address) as page,
    ):
        page.wait_for_selector("#key-form:not([hidden])")
        page.fill("#key", "secret-1")
        page.click("#key-form button")
        shows(page, "#server", "tiny")
        embed(page)


def test_the_corpus_of_the_start_is_there(browser, tiny, tmp_path):
    from jsbert.serve.corpus import read_corpus
    from tests.serve.conftest import running

    (tmp_path / "mine.txt").write_text("\n".join(LINES))
    corpus = read_corpus(tmp_path / "mine.txt")
    with running({"tiny": tiny}, corpus=corpus) as (_, address), opened(browser, address) as page:
        shows(page, "#status", "7 texts of mine.txt")


@pytest.mark.slow
def test_ten_thousand_sentences_stay_smooth(browser, served):
    lines = [f"{LINES[i % 6]} Number {i}." for i in range(10_000)]
    with opened(browser, served[1]) as page:
        shows(page, "#server", "tiny")
        page.evaluate(
            "(text) => { document.querySelector('#texts').value = text }", "\n".join(lines)
        )
        page.click("#embed")
        shows(page, "#status", "10,000 texts", timeout=300_000)
        page.fill("#query", "boat number 77")
        page.wait_for_selector("#results li")
        told = page.locator("#found").inner_text()
        assert int(told.split(", ")[-1].split()[0].replace(",", "")) < 1000, told
        drawn = page.evaluate(
            "() => { const start = performance.now();"
            "for (let i = 0; i < 10; i += 1) window.dispatchEvent(new Event('resize'));"
            "return performance.now() - start }"
        )
        assert drawn < 1000
