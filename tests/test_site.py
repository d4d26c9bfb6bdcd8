"""The site that `make docs` builds: strictly, with no other host in it, and with a reference that is complete."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import typer

from documents import ROOT, prose

URL = r"(?:https?:)?//"
# What a browser loads by itself; an `a` is followed by a reader only.
LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
}
INERT_LINKS = {"canonical", "prev", "next", "alternate", "license", "author"}
# Material's own scripts name these hosts: for what no page has (diagrams, the card of a repository), and in messages.
IN_SCRIPTS = {"unpkg.com", "bit.ly", "api.github.com", "gitlab.com", "www.w3.org", "github.com", "squidfunk.github.io"}
WAKES_A_HOST = ('class="mermaid"', 'data-md-component="source"', 'data-md-component="consent"')
MODULES = ("palpate", "palpate.session", "palpate.batch", "palpate.export", "palpate.pictures", "palpate.phantom",
           "palpate.evaluation", "palpate.training")  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of MkDocs or of a plugin fails the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # Material's own notice, which is no warning of ours
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


class Page(HTMLParser):
    """What a test asks of a built page.

    Attributes:
        loads: addresses that a browser loads by itself, with their tags.
        anchors: the ids of its elements.
        paragraphs: the text of its paragraphs.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.paragraphs: list[str] = []
        self._inside = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        names = LOADED.get(tag, ())
        if tag == "link" and not set(given.get("rel", "").split()) & INERT_LINKS:
            names = ("href", "imagesrcset")
        self.loads += [(tag, given[name]) for name in names if name in given]
        self.loads += [("style", address) for address in addresses_of_css(given.get("style", ""))]
        if "id" in given:
            self.anchors.add(given["id"])
        if tag == "p":
            self.paragraphs.append("")
            self._inside += 1

    def handle_endtag(self, tag: str) -> None:
        self._inside -= tag == "p"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.paragraphs[-1] += data


def addresses_of_css(text: str) -> list[str]:
    """What a style sheet loads: `url(...)` and `@import`."""
    return re.findall(r"url\(\s*['\"]?([^'\")]+)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)


def pages(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.rglob("*.html")):
        yield path, Page(path.read_text(encoding="utf-8"))


def elsewhere(address: str) -> bool:
    """Whether an address is of another host."""
    return re.match(URL, address.strip()) is not None


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A folder on 127.0.0.1; yields its address."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_pages_load_nothing_from_another_host(site: Path) -> None:
    seen = 0
    for path, page in pages(site):
        seen += len(page.loads)
        assert [each for each in page.loads if elsewhere(each[1])] == [], path
    assert seen > 100, "every page has style sheets and a script"


def test_style_sheets_load_nothing_from_another_host(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert sheets
    for sheet in sheets:
        assert [each for each in addresses_of_css(sheet.read_text(encoding="utf-8")) if elsewhere(each)] == [], sheet


def test_scripts_contact_no_other_host(site: Path) -> None:
    """Material's scripts name hosts for things that a page may have; no page of ours has them."""
    scripts = [*site.glob("assets/javascripts/bundle*.js"), *site.glob("assets/javascripts/workers/*.js")]
    assert len(scripts) >= 2, "beside them lie lunr's stemmers, which English pages do not load"
    for script in scripts:
        code = re.sub(r"/\*.*?\*/", "", script.read_text(encoding="utf-8"), flags=re.DOTALL)  # licences name hosts
        hosts = set(re.findall(r"https?://([\w.-]+)", code))
        assert hosts <= IN_SCRIPTS, script
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert [word for word in WAKES_A_HOST if word in text] == [], path
        inline = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", text, re.DOTALL)
        assert [script for script in inline if re.search(rf"['\"`]{URL}", script)] == [], path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<link rel="stylesheet" href="https://fonts.googleapis.com/css">', True),
        ('<link rel="preconnect" href="//fonts.gstatic.com">', True),
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<p style="background: url(https://a.example/b.png)">', True),
        ('<img src="../demo.png"><a href="https://arxiv.org/abs/2306.13465">', False),
        ('<link rel="canonical" href="https://palpate.example/">', False),
    ],
)
def test_another_host_is_seen(text: str, found: bool) -> None:
    assert any(elsewhere(address) for _, address in Page(text).loads) is found


def test_another_host_in_a_style_sheet_is_seen() -> None:
    assert addresses_of_css("@import 'https://a.example/b.css'; p { background: url( \"//c.example/d.png\" ) }") == [
        "//c.example/d.png",
        "https://a.example/b.css",
    ]


def test_a_browser_contacts_this_host_alone(site: Path) -> None:
    """Every page, opened in Chromium, with a search, light and dark."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    requested: set[str] = set()
    with serving(site) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            tab = browser.new_context(color_scheme=scheme).new_page()
            tab.on("request", lambda request: requested.add(request.url))
            for path in sorted(site.rglob("*.html")):
                tab.goto(f"{address}/{path.relative_to(site).as_posix()}", wait_until="networkidle")
        tab.goto(f"{address}/index.html", wait_until="networkidle")
        tab.click("input[name=query]")
        tab.keyboard.type("lasso")  # key by key: the page listens to keys
        tab.wait_for_selector(".md-search-result__link")
        browser.close()
    hosts = {urlsplit(url).hostname for url in requested if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {"127.0.0.1"}


def test_lists_are_lists(site: Path) -> None:
    """A list without an empty line before it is one for GitHub, and a paragraph with dashes here."""
    for path, page in pages(site):
        for paragraph in page.paragraphs:
            assert not re.search(r"\n\s*(?:[-*]|\d+\.) ", paragraph), f"{path}: {paragraph}"


def options(command: object, words: tuple[str, ...] = ("palpate",)) -> Iterator[tuple[str, set[str]]]:
    """Each verb of an application with the names of its options and arguments."""
    below = getattr(command, "commands", None)
    if below is None:
        named = [name for each in command.params if not getattr(each, "hidden", False) for name in each.opts]  # type: ignore[attr-defined]
        yield " ".join(words), {name for name in named if name.startswith("-")}
        return
    for name, each in below.items():
        yield from options(each, (*words, name))


def test_the_command_lines_reference_has_every_verb_and_option(site: Path) -> None:
    from palpate.cli import app

    text = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    page = Page(text)
    verbs = dict(options(typer.main.get_command(app)))
    assert len(verbs) > 20
    for verb, names in verbs.items():
        anchor = verb.replace(" ", "-")
        assert anchor in page.anchors
        section = text.partition(f'id="{anchor}"')[2]
        section = re.split(r"<h[23] id=", section)[0]
        missing = [name for name in names if not re.search(rf"<code>[^<]*{re.escape(name)}\b", section)]
        assert missing == [], verb
        assert "Example" in section, verb


def test_the_python_reference_has_every_public_name(site: Path) -> None:
    anchors = {anchor for _, page in pages(site / "reference" / "python") for anchor in page.anchors}
    modules = {name: importlib.import_module(name) for name in MODULES}
    for module in modules.values():
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and hasattr(value, "__module__") and value.__module__.startswith("palpate"):
                homes = {f"{room}.{name}" for room, other in modules.items() if getattr(other, name, None) is value}
                assert (homes | {f"{value.__module__}.{name}"}) & anchors, f"{module.__name__}.{name}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_roots_pages_lead_somewhere(name: str) -> None:
    text = re.sub(r"(`+).+?\1", "", prose((ROOT / name).read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        address = urlsplit(target)
        if address.scheme:
            continue
        path = ROOT / unquote(address.path) if address.path else ROOT / name
        assert path.exists(), target
        if address.fragment:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert address.fragment in {anchor(title) for title in titles}, target


def anchor(title: str) -> str:
    """GitHub's anchor of a title."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
