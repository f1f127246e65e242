"""The project about itself: one definition of each table, fresh pages, samples that load."""

import ast
import configparser
import importlib
import itertools
import pathlib
import re
import subprocess
import sys
import tomllib

import docutils.core
import docutils.nodes
import docutils.parsers.rst
import pytest

from glance.common import statuses

from support import pages

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "glance").rglob("*.py"))
PAGES = [ROOT / "README.rst", *pages.every(), *sorted(pages.NEWS.glob("*.rst"))]
SAMPLES = sorted((ROOT / "etc").glob("*.conf"))
TIERS = ("quick", "full", "services")


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Return a directory with the pages as the tables make them now.

    In a process of its own, because the order of options within a page is that of the imports.
    """
    directory = tmp_path_factory.mktemp("pages")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "glance.cli.docs.options", str(directory)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return directory


@pytest.mark.parametrize(
    "page",
    [
        *(str(pages.path(name).relative_to(ROOT)) for name in ("options", "errors")),
        *(str(sample.relative_to(ROOT)) for sample in SAMPLES),
    ],
)
def test_generated_pages_are_fresh(generated, page):
    wanted = (generated / page).read_text(encoding="utf-8")
    assert (ROOT / page).read_text(encoding="utf-8") == wanted, "run: python3 tests/run.py -e docs"


OPTIONS = pages.path("options").relative_to(ROOT)
#: The name of an option on that page; and its name and help.
NAME = r"^\.\. confval:: (\w+)$"
ENTRY = NAME + r"\n    :type: .*\n    :default: .*\n\n    (.*)$"


def test_every_option_is_described_in_a_sentence(generated):
    text = (generated / OPTIONS).read_text(encoding="utf-8")
    entries = re.findall(ENTRY, text, re.MULTILINE)
    declared = set(re.findall(NAME, text, re.MULTILINE))
    assert declared == {name for name, _ in entries}
    assert not [name for name, help_text in entries if not help_text.rstrip().endswith(".")]


def test_every_module_that_declares_options_is_on_the_page(generated):
    text = (generated / OPTIONS).read_text(encoding="utf-8")
    missing = {
        node.args[0].value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", "")) == "Option"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and f".. confval:: {node.args[0].value}\n" not in text
    }
    assert not missing


#: Roles and directives of Sphinx that pages use; `tox -e docs` checks what they lead to.
ROLES = ("doc", "ref", "mod", "option", "program", "confval")
DIRECTIVES = {
    "toctree": False,
    "autoclass": False,
    "automodule": False,
    "modules": False,
    "unreleased": False,
    "upgrade-notes": False,
    "program": False,
    "option": True,
    "confval": True,
}


class _Taken(docutils.parsers.rst.Directive):
    """A directive that docutils alone does not know; its content is a part of the page, or not."""

    has_content = final_argument_whitespace = True
    optional_arguments = 1
    option_spec = dict.fromkeys(
        ("hidden", "caption", "maxdepth", "members", "inherited-members", "type", "default"), str
    )

    def run(self):
        node = docutils.nodes.container()
        if DIRECTIVES[self.name]:
            self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


@pytest.fixture(scope="module")
def sphinx_markup():
    """Make docutils take Sphinx's markup, so that it can judge the rest of a page."""
    for name in ROLES:
        docutils.parsers.rst.roles.register_generic_role(name, docutils.nodes.inline)
    for name in DIRECTIVES:
        docutils.parsers.rst.directives.register_directive(name, _Taken)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_valid(page, sphinx_markup):
    docutils.core.publish_string(
        page.read_text(encoding="utf-8"),
        source_path=str(page),
        settings_overrides={"report_level": 2, "halt_level": 2, "raw_enabled": False},
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    # A target with an underscore at its end is on the same page.
    for target in re.findall(r"(?<!`)`[^`<]+<([^>\s]+(?<!_))>`_", text):
        if "://" not in target:
            # On a page of the book, Sphinx would not find it.
            assert page.name == "README.rst", f"write :doc:`...` instead of <{target}>"
            assert (page.parent / target).exists(), target
    for target in re.findall(r":doc:`[^`]*?<?(/[^`>\s]+)>?`", text):
        assert (pages.SOURCE / f"{target[1:]}.rst").exists(), target


#: A loop of a shell that ends only when something happens.
ENDLESS = re.compile(r"^\s+(?:until|while)\b.*(?:;\s*do\b|\bdo$)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_waits_without_an_end(page):
    assert not ENDLESS.findall(page.read_text(encoding="utf-8"))


def test_a_loop_without_an_end_is_found():
    assert ENDLESS.search("::\n\n    until curl -s x; do sleep 1; done\n")
    assert ENDLESS.search("::\n\n    while ! curl -s x; do\n        sleep 1\n    done\n")


#: Paths (``glance/api/upload.py``) and dotted names (``glance.client.Client``) on pages.
PRINTED = re.compile(
    r"(?<![\w./@:-])(glance(?:/\w+)+(?:\.py)?|glance(?:\.[A-Za-z_]\w*)+(?::\w+)?)"
)
#: Not names of Python: files that programs or the system read.
OTHER_FILES = {"glance.conf"}


def exists(name):
    """Return whether a path of the tree, a dotted name, or a name that the code quotes exists."""
    if "/" in name:
        return (ROOT / name).exists()
    parts = name.replace(":", ".").split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError as err:
            assert err.name.startswith("glance"), err
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        if found is not None:
            return True
        break
    # Names of loggers and groups of entry points are text only.
    return any(f'"{name}"' in path.read_text(encoding="utf-8") for path in SOURCES)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_names_on_pages_exist(page):
    printed = set(PRINTED.findall(page.read_text(encoding="utf-8"))) - OTHER_FILES
    assert not {name for name in printed if not exists(name)}


@pytest.mark.parametrize(
    "name",
    [f"glance{rest}" for rest in ("/api/no.py", ".api.No", ".no", ".client.No")],
)
def test_names_that_do_not_exist_are_found(name):
    assert PRINTED.findall(f"see ``{name}``, and more.") == [name]
    assert not exists(name)


def test_the_architecture_page_names_the_code():
    text = pages.text("architecture")
    assert "glance/api/upload.py" in PRINTED.findall(text)


@pytest.mark.parametrize("page", pages.every(), ids=lambda path: path.stem)
def test_every_page_stands_on_a_shelf_of_the_index(page):
    if page.stem == "index":
        return
    index = pages.text("index")
    name = str(page.relative_to(pages.SOURCE).with_suffix(""))
    assert name.count("/") == 1 and index.count(f"\n   {name}\n") == 1


NEWS = sorted(pages.NEWS.glob("*"))


@pytest.mark.parametrize("fragment", NEWS, ids=lambda path: path.name)
def test_news_fragments_are_short_sentences_of_a_known_kind(fragment):
    assert re.fullmatch(r"[a-z0-9-]+\.(feature|fix|upgrade|security)\.rst", fragment.name)
    text = fragment.read_text(encoding="utf-8").strip()
    assert text.endswith(".") and len(text) < 600


@pytest.mark.parametrize(
    ("definition", "home"),
    [
        (r"^FIELDS\b.*=", "glance/image/fields.py"),
        (r"^TRANSITIONS\b.*=", "glance/image/fields.py"),
        (r"^DISK_FORMATS\b.*=", "glance/image/fields.py"),
        (r"^CONTAINER_FORMATS\b.*=", "glance/image/fields.py"),
        (r"b[\"']QFI", "glance/inspect/signatures.py"),
        (r"(?i)[\"']# ?disk descriptorfile", "glance/inspect/signatures.py"),
        (r"[\"']pending_delete[\"']:", "glance/image/fields.py"),
        (r"^SORT_KEYS\b.*=", "glance/image/listing.py"),
        (r"\bRow\(", "glance/common/httperror.py"),
        (r"^REASONS\b.*=", "glance/common/statuses.py"),
        (r"[\"']bytes=", "glance/http/ranges.py"),
        (r"W/\)?\\?[\"']", "glance/http/etags.py"),
        (r"^TABLE: dict\[str, Option\]", "glance/common/config.py"),
    ],
)
def test_each_table_has_one_home(definition, home):
    frozen = "migrate_repo/versions"  # what a schema version knew never changes with the tables
    holders = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if frozen not in str(path)
        and re.search(definition, path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert holders == {home}


def test_names_of_disk_formats_are_written_in_two_tables_only():
    """That of the records, and that of the marks; another test holds them together."""
    homes = ("glance/image/fields.py", "glance/inspect/signatures.py")
    holders = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if "migrate_repo/versions" not in str(path)
        and re.search(r"[\"']qcow2[\"']", path.read_text(encoding="utf-8"))
    }
    assert holders == set(homes)


def test_no_status_of_an_error_is_written_outside_the_table():
    """Controllers raise errors; only the table knows their numbers."""
    table = "glance/common/httperror.py"
    for path in SOURCES:
        name = str(path.relative_to(ROOT))
        if name == table:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "status":
                value = getattr(node.value, "value", None)
                assert not isinstance(value, int) or value < 400, f"{name}:{node.value.lineno}"


def _documentation(tree):
    """Return the nodes of docstrings, which may speak of anything."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef)
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, holders) and node.body and isinstance(node.body[0], ast.Expr)
    }


def _status_lines(text):
    """Return the lines of all literals in a module's text that hold a status with its phrase."""
    tree = ast.parse(text)
    documentation = _documentation(tree)
    found = []
    for node in ast.walk(tree):
        value = getattr(node, "value", None)
        if not isinstance(node, ast.Constant) or id(node) in documentation:
            continue
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        # A phrase of several words needs no number to be known as one.
        is_phrase = value in statuses.REASONS.values() and " " in value
        if is_phrase or (isinstance(value, str) and _STATUS_LINE.search(value)):
            found.append(node.lineno)
    return found


_STATUS_LINE = re.compile(r"(?<![0-9])[1-5][0-9]{2} [A-Z][A-Za-z]")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("x = '404 Not Found'", 1),
        ("x = f'{y} 404 Not Found'", 1),
        ("x = b'HTTP/1.1 100 Continue'", 1),
        ("x = {404: 'Not Found'}", 1),
        ("x = '418 Teapot'", 1),
        ("def f():\n    'It answers 404 Not Found.'", 0),
        ("x = 'OK', '404', '1024 MiB'", 0),
    ],
)
def test_status_lines_are_found_where_they_stand(text, count):
    assert len(_status_lines(text)) == count


def test_no_status_line_is_written_outside_the_table():
    table = ROOT / "glance" / "common" / "statuses.py"
    assert _status_lines(table.read_text(encoding="utf-8"))
    wrong = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        if path != table
        for line in _status_lines(path.read_text(encoding="utf-8"))
    }
    assert not wrong


def test_sample_configurations_are_there():
    names = {path.name for path in SAMPLES}
    assert names == {
        f"glance-{name}.conf"
        for name in ["api", "registry", "scrubber", "converter", "prefetcher", "pruner", "reaper"]
    }


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_sample_configurations_load(sample, generated):
    parser = configparser.RawConfigParser(strict=True)
    parser.read(sample)
    text = (generated / OPTIONS).read_text(encoding="utf-8")
    known = set(re.findall(NAME, text, re.MULTILINE))
    assert set(parser.defaults()) <= known


def test_no_line_is_left_to_be_done():
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert not [path for path in SOURCES if mark.search(path.read_text(encoding="utf-8"))]


def test_no_mark_of_a_merge_is_left():
    mark = re.compile(r"^\s*(<{7}|>{7}) ", re.MULTILINE)
    tests = (ROOT / "tests").rglob("*.py")
    assert not [
        path for path in [*SOURCES, *PAGES, *tests] if mark.search(path.read_text("utf-8"))
    ]


def test_types_are_checked_strictly_and_each_exception_says_why():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["mypy"]["strict"] == "True"
    bare = re.compile(r"# type: ignore(?!\[[\w-]+\]  # \w)")
    assert not [path for path in SOURCES if bare.search(path.read_text(encoding="utf-8"))]


def test_the_readme_and_the_gate_name_the_same_test_command():
    command = "python3 tests/run.py"
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    assert f"\n    {command}\n" in readme
    assert f"stage tests {command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_hooks_before_a_commit_run_environments_that_there_are():
    tox = configparser.RawConfigParser()
    tox.read(ROOT / "tox.ini")
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    called = re.findall(r"entry: python3 tests/run\.py run -e (\S+)(?: -- (.*))?$", hooks, re.M)
    assert len(called) == hooks.count("- id:") == 3
    for environment, arguments in called:
        assert f"testenv:{environment}" in tox
        assert all((ROOT / name).exists() for name in arguments.split())


def test_each_test_belongs_to_one_command_of_tox():
    """Whatever marks a test has: exactly one of quick, full and services runs it."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    commands = "\n".join(tox[f"testenv:{name}"]["commands"] for name in TIERS)
    chosen = re.findall('-m "([^"]+)"(?!.*--store)', commands)
    assert len(chosen) == len(TIERS)
    for marks in itertools.product([False, True], repeat=3):
        names = dict(zip(("full", "peers", "slow"), marks, strict=True))
        takers = [text for text in chosen if eval(text, {}, names)]
        assert len(takers) == 1, (names, takers)


@pytest.mark.parametrize("tier", TIERS)
def test_the_gate_runs_each_tier(tier):
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    if tier == tox["tox"]["env_list"]:
        assert "stage tests python3 tests/run.py\n" in gate
    else:
        assert re.search(rf"^stage .* python3 tests/run.py run -e {tier}$", gate, re.MULTILINE)


def test_installed_commands_and_scripts_are_the_same_functions():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].split("\n")
    installed = dict(re.split(r"\s*=\s*", line) for line in lines if "=" in line)
    scripts = {}
    for path in sorted((ROOT / "bin").iterdir()):
        text = path.read_text(encoding="utf-8")
        if found := re.search(r"^ *from (glance\.cli[.\w]+) import (\w+)$", text, re.MULTILINE):
            scripts[path.name] = f"{found[1]}:{found[2]}"
    assert installed == scripts


def test_no_two_public_classes_share_a_name():
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not {name: found for name, found in homes.items() if len(found) > 1}


def test_towncrier_knows_the_kinds_of_fragments():
    text = (ROOT / "doc" / "towncrier.toml").read_text(encoding="utf-8")
    settings = tomllib.loads(text)["tool"]["towncrier"]
    kinds = {kind["directory"] for kind in settings["type"]}
    assert kinds == {"feature", "fix", "upgrade", "security"}
    assert {fragment.suffixes[0][1:] for fragment in NEWS} <= kinds
    assert ROOT / "doc" / settings["directory"] == pages.NEWS
    assert ROOT / "doc" / settings["filename"] == pages.path("changelog")
    assert settings["start_string"] in pages.text("changelog")
