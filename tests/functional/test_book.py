"""The book is built without a warning, and a browser shows its pages whole, wide and narrow."""

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

from support import blocks, browser, checkout, faults, images, pages

pytestmark = pytest.mark.peers

RUNS = {"releasing": {"": "test_the_changelog_of_a_release_is_written"}}

#: The widths of a telephone and of a small screen, in pixels.
NARROW, WIDE = 390, 1280
#: The width that the page needs, and what lies beyond its edge without a scroll bar of its own.
BEYOND = """(() => {
    const width = document.documentElement.clientWidth;
    const scrolled = (each) => {
        for (let box = each.parentElement; box && box.tagName !== "BODY"; box = box.parentElement)
            if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return true;
        return false;
    };
    const beyond = [...document.querySelectorAll("article *")].filter((each) => {
        const box = each.getBoundingClientRect();
        return box.width && box.right > width + 1 && !scrolled(each);
    });
    return {
        width, needed: document.documentElement.scrollWidth,
        beyond: beyond.slice(0, 3).map((each) => `${each.tagName} ${each.textContent}`),
    };
})()"""


def build(source, target):
    """Return the end of Sphinx, which takes every warning for an error."""
    words = ["-W", "ignore", "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    return subprocess.run(
        [sys.executable, *words, "-d", str(target) + ".doctrees", str(source), str(target)],
        cwd=pages.ROOT,
        env={**os.environ, "PYTHONPATH": str(pages.ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Return the directory of the built pages."""
    if not all(map(importlib.util.find_spec, ("sphinx", "furo"))):
        images.without("not installed: pip install 'glance[docs]'")
    target = tmp_path_factory.mktemp("book") / "html"
    done = build(pages.SOURCE, target)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    if browser.program() is None:
        images.without("not installed: chromium")
    with browser.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def written(book):
    """Return the files of the pages that somebody wrote, and of the lists that Sphinx makes."""
    found = [book / path.relative_to(pages.SOURCE).with_suffix(".html") for path in pages.every()]
    return [*found, book / "genindex.html", book / "search.html", book / "py-modindex.html"]


def seen(window, path):
    """Return what is wrong with a page in the window."""
    window.open(path.as_uri())
    found = window.run(BEYOND)
    wrong = [f"console: {error}" for error in window.errors]
    if found["needed"] > found["width"] or found["beyond"]:
        wrong.append(f"wider than the window: {found}")
    return wrong


def test_every_page_fits_a_telephone_and_has_no_error(book, window):
    window.size(NARROW, 844)
    wrong = {path.name: found for path in written(book) if (found := seen(window, path))}
    assert not wrong


def test_the_start_page_shows_the_four_shelves_at_once(book, window):
    window.size(WIDE, 900)
    window.open((book / "index.html").as_uri())
    bottoms = window.run(
        '[...document.querySelectorAll(".shelves dd")]'
        ".map((each) => each.getBoundingClientRect().bottom)"
    )
    assert len(bottoms) == 4
    assert max(bottoms) < 900


#: The lowest contrast of the text in blocks with their background (WCAG 2, 1.4.3: 4.5 is enough).
CONTRAST = """(() => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => channels(color).slice(0, 3)
        .map((each) => each / 255)
        .map((each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
        .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
    const ground = (each) => {
        const color = getComputedStyle(each).backgroundColor;
        const parts = channels(color);
        return parts.length === 4 && parts[3] === 0 ? ground(each.parentElement) : color;
    };
    const found = [...document.querySelectorAll(".highlight pre, .highlight pre span")]
        .filter((each) => each.textContent.trim())
        .map((each) => {
            const [a, b] = [light(getComputedStyle(each).color), light(ground(each))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        });
    return {spans: document.querySelectorAll(".highlight pre span[class]").length,
            lowest: Math.min(...found)};
})()"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_blocks_have_colours_that_can_be_read(book, window, theme):
    window.size(WIDE, 900)
    for page in ("how-to/image-cache", "how-to/keystone", "reference/python-client"):
        window.open((book / f"{page}.html").as_uri())
        window.run(f'document.body.dataset.theme = "{theme}"')
        found = window.run(CONTRAST)
        assert found["spans"] > 20 and found["lowest"] >= 4.5, (page, found)


@pytest.fixture(scope="module")
def extension():
    """Return what the book has beyond Sphinx, as a module."""
    path = pages.ROOT / "doc" / "extension" / "glance_book.py"
    spec = importlib.util.spec_from_file_location("glance_book_of_the_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$ ls\nfile", "console"),
        ("glance index", "sh"),
        ("/opt/glance/bin/pip install x", "sh"),
        ("TOKEN=x", "sh"),
        ("[DEFAULT]\nuser = glance\n\nport = 1", "ini"),
        ("clouds:\n  a: 1", "yaml"),
        ('{"a": 1}', "json"),
        ("import time", "python"),
        ("image = client.get_image_v2(7)", "python"),
        ("Pass done: 30 leased", "none"),
        ("swift+https://host/glance/17", "none"),
        ("word", "none"),
    ],
)
def test_the_language_of_a_block_is_found(text, expected, extension):
    assert extension.language(text) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<pre>" + "x" * 500 + "</pre>", "wider than the window"),
        ("<div style='overflow: hidden'><code>" + "x" * 500 + "</code></div>", "wider than"),
        ("<script>console.error('no')</script>", "console: "),
        ("<script>nothing()</script>", "console: "),
        ("<img src='nowhere.png'>", "console: "),
    ],
)
def test_what_is_wrong_with_a_page_is_seen(window, tmp_path, body, expected):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><html><body><article>{body}</article></body></html>")
    window.size(NARROW, 844)
    assert any(expected in each for each in seen(window, page))


def test_a_page_that_fits_is_not_complained_about(window, tmp_path):
    page = tmp_path / "page.html"
    inner = f"<div style='overflow-x: auto'><pre>{'x' * 500}</pre></div>"
    page.write_text(f"<!doctype html><html><body><article>{inner}</article></body></html>")
    window.size(NARROW, 844)
    assert seen(window, page) == []


@pytest.mark.parametrize(
    ("word", "entry"),
    [
        ("image_cache_max_size", "reference/options.html#confval-image_cache_max_size"),
        ("glance-control", "reference/programs.html#glance-control"),
        ("glance/api/upload.py", "reference/modules.html#module-glance.api.upload"),
    ],
)
def test_names_on_pages_lead_to_their_entries(book, word, entry):
    page, _, anchor = entry.partition("#")
    assert f'id="{anchor}"' in (book / page).read_text(encoding="utf-8")
    text = "".join(path.read_text(encoding="utf-8") for path in written(book) if path.exists())
    links = re.findall(rf'href="([^"]+)"[^>]*><code[^>]*>(?:<span[^>]*>)?{re.escape(word)}<', text)
    assert any(link.endswith(entry.rpartition("/")[2]) for link in links), links


def test_the_search_finds_an_option(book, window):
    window.open((book / "search.html").as_uri() + "?q=image_cache_max_size")
    links = '[...document.querySelectorAll("#search-results li a")].map((each) => each.href)'
    found = faults.until(lambda: window.run(links), "a result of the search")
    assert found[0].endswith("reference/options.html#confval-image_cache_max_size")
    assert not window.errors


def test_a_broken_reference_fails_the_build(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "conf.py").write_text('project = "x"\nnitpicky = True\n')
    text = "x\n=\n\n:doc:`/none` :ref:`nil`\n\n.. toctree::\n\n   no\n"
    (source / "index.rst").write_text(text)
    done = build(source, tmp_path / "html")
    assert done.returncode != 0
    assert all(name in done.stderr for name in ("/none", "'nil'", "'no'"))


@pytest.fixture
def changelog(tmp_path, monkeypatch):
    """Return the book's module about the changelog, for a copy of the fragments."""
    shutil.copytree(pages.ROOT / "doc", tmp_path / "doc", ignore=shutil.ignore_patterns("build"))
    monkeypatch.syspath_prepend(tmp_path / "doc" / "extension")
    module = importlib.import_module("glance_book")
    yield module
    del sys.modules["glance_book"]


def release(module, version):
    words = ["build", "--config", str(module.CONFIG), "--version", version, "--date", "2026-11-27"]
    subprocess.run(
        [sys.executable, "-m", "towncrier", *words, "--yes"],
        cwd=module.DOC,
        check=True,
        capture_output=True,
    )


def test_a_release_joins_the_fragments_and_keeps_its_upgrade_notes(changelog):
    for old in changelog.NEWS.iterdir():
        old.unlink()
    (changelog.NEWS / "one.feature.rst").write_text("It can do\nthis.\n")
    (changelog.NEWS / "two.upgrade.rst").write_text("Do that.\n")
    release(changelog, "8.1.0")
    assert not list(changelog.NEWS.glob("*.rst")) and changelog.unreleased() == ""
    (changelog.NEWS / "three.upgrade.rst").write_text("Do more.\n")
    release(changelog, "8.2.0")
    (changelog.NEWS / "four.fix.rst").write_text("Mended.\n")

    written = changelog.CHANGELOG.read_text()
    found = [(title, changelog.upgrade_notes(text)) for title, text in changelog.releases(written)]
    assert [title for title, _ in found] == ["8.2.0 (2026-11-27)", "8.1.0 (2026-11-27)"]
    assert [notes.strip() for _, notes in found] == ["* Do more.", "* Do that."]
    assert "\nFeatures\n--------\n\n* It can do\n  this.\n" in written
    assert changelog.upgrade_notes(changelog.unreleased()) == ""
    assert "* Mended." in changelog.unreleased()


def test_the_pages_have_the_fragments(book):
    def shown(name):
        text = (book / pages.path(name).relative_to(pages.SOURCE)).with_suffix(".html").read_text()
        return re.sub(r"<[^>]+>|\s+", "", text)

    fragments = {
        path: re.sub(":doc:`[^`]*`", "`", path.read_text("utf-8"))
        for path in sorted(pages.NEWS.glob("*.rst"))
    }
    # The longest part of each without markup.
    plain = {
        path: max(re.split(r"[`*&<>\"'\\]", re.sub(r"\s+", "", text)), key=len)
        for path, text in fragments.items()
    }
    changelog, upgrading = shown("changelog"), shown("upgrading")
    assert not [path.name for path, text in plain.items() if text not in changelog]
    wanted = {path for path in plain if ".upgrade." in path.name}
    assert not [path.name for path in wanted if plain[path] not in upgrading]


def test_the_changelog_of_a_release_is_written(tmp_path):
    if importlib.util.find_spec("towncrier") is None:
        images.without("not installed: pip install 'glance[docs]'")
    (command,) = blocks.read(pages.path("releasing"), excused=False)
    copy = checkout.copy_to(tmp_path / "copy")
    fragments = sorted(
        path.stem.partition(".")[0] for path in (copy / "doc/source/news").iterdir()
    )
    subprocess.run(["git", "init", "-q", "."], cwd=copy, check=True)
    subprocess.run(["git", "add", "doc"], cwd=copy, check=True)
    program, *words = command.split()
    done = subprocess.run(
        [sys.executable, "-m", program, *words], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    changelog = (copy / "doc/source/reference/changelog.rst").read_text(encoding="utf-8")
    assert "1.1.0" in changelog and changelog.count("\n* ") + changelog.count("\n- ") > 1
    assert fragments and not list((copy / "doc/source/news").glob("*.feature.rst"))
