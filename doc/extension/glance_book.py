"""What the book of glance's pages needs beyond Sphinx: links by name, modules, and the changelog.

``name`` on a page (an option of a configuration file, a program, a module by its path or dotted
name) becomes a link to its entry in the reference, once in each section. So pages stay readable as
text, and whoever writes one need not know where the entry is. For the same reason, the language of
a literal block is found by its text.
"""

from __future__ import annotations

import ast
import importlib
import json
import pathlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

#: ``name``, or ``name = value`` as in a file.
_OPTION = re.compile(r"(\w+)( = .*)?", re.DOTALL)
#: Schema versions: their names begin with a digit, and each is described in itself.
_NOT_LISTED = ".migrate_repo."


class Modules(SphinxDirective):
    """`.. modules:: glance`: the description of each module of a package, in order of names.

    The content names those that another page describes, one in each line.
    """

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        lines = []
        for name in _modules(self.arguments[0]):
            lines += [f".. rubric:: {name}", ""]
            if name in self.content:
                lines += [f"See :mod:`{name}`.", ""]
            else:
                lines += [f".. automodule:: {name}", "   :no-members:", ""]
        self.content = StringList(lines, "modules")
        return self.parse_content_to_nodes()


DOC = pathlib.Path(__file__).resolve().parents[1]
CONFIG = DOC / "towncrier.toml"
NEWS = DOC / "source" / "news"
CHANGELOG = DOC / "source" / "reference" / "changelog.rst"
#: The line of the changelog below which its releases are, as in towncrier's configuration.
_START = ".. towncrier release notes start\n"
_UNDERLINED = r"(?m)^(.+)\n({mark})+\n"
_UPGRADE = "Upgrade notes"


def unreleased() -> str:
    """Return the fragments that belong to no release yet, joined by towncrier; may be empty."""
    if not any(NEWS.glob("*.rst")):
        return ""
    words = ["build", "--draft", "--config", str(CONFIG), "--version", "next", "--date", "soon"]
    done = subprocess.run(
        [sys.executable, "-m", "towncrier", *words], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"towncrier has failed: {done.stderr}")
    # The page has a title of its own for it.
    return "\n".join(done.stdout.strip().split("\n")[2:])


def upgrade_notes(text: str) -> str:
    """Return of the text of one release what operators must know; empty without such notes."""
    parts = re.split(_UNDERLINED.format(mark="-"), text)
    return next((parts[at + 2] for at in range(1, len(parts), 3) if parts[at] == _UPGRADE), "")


def releases(changelog: str) -> Iterator[tuple[str, str]]:
    """Yield title and text of each release in the changelog, the newest first."""
    parts = re.split(_UNDERLINED.format(mark="="), changelog.partition(_START)[2])
    for at in range(1, len(parts), 3):
        yield parts[at], parts[at + 2]


class Unreleased(SphinxDirective):
    """`.. unreleased::`: the fragments of the changelog that belong to no release yet."""

    def run(self) -> list[nodes.Node]:
        _depend(self)
        text = unreleased() or "Nothing."
        self.content = StringList(text.split("\n"), str(NEWS))
        return self.parse_content_to_nodes(allow_section_headings=True)


class UpgradeNotes(SphinxDirective):
    """`.. upgrade-notes::`: what operators must know of each release, the newest first."""

    def run(self) -> list[nodes.Node]:
        _depend(self)
        all_of = [("Not released yet", unreleased()), *releases(CHANGELOG.read_text("utf-8"))]
        lines: list[str] = []
        for title, text in all_of:
            if notes := upgrade_notes(text):
                lines += [title, "-" * len(title), "", *notes.split("\n"), ""]
        self.content = StringList(lines, str(CHANGELOG))
        return self.parse_content_to_nodes(allow_section_headings=True)


def _depend(directive: SphinxDirective) -> None:
    """Have the page built anew whenever a fragment changes, comes or goes."""
    directive.env.note_dependency(str(CHANGELOG))
    directive.env.note_reread()


def _modules(package: str) -> Iterator[str]:
    yield package
    path = importlib.import_module(package).__path__
    for info in sorted(pkgutil.walk_packages(path, f"{package}."), key=lambda each: each.name):
        if _NOT_LISTED not in info.name:
            yield info.name


def _target(env: BuildEnvironment, text: str) -> tuple[str, str] | None:
    """Return the page and the anchor of the entry that a literal names; None without any."""
    python, standard = env.domains.python_domain, env.domains.standard_domain
    module = text.removesuffix(".py").rstrip("/").replace("/", ".")
    if module in python.modules and text != "glance":
        return python.modules[module].docname, python.modules[module].node_id
    if text in python.objects:
        return python.objects[text].docname, python.objects[text].node_id
    if text in standard.labels and text.startswith("glance"):
        page, anchor, _ = standard.labels[text]
        return page, anchor
    found = _OPTION.fullmatch(text)
    # A plain word such as `debug` is an option only where it is set.
    if found and ("_" in found[1] or found[2]):
        return standard.objects.get(("confval", found[1]))
    return None


def link_names(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn literals that name an entry of the reference into links to it."""
    linked: set[tuple[int, str]] = set()
    for literal in list(doctree.findall(nodes.literal)):
        parents = list(_parents(literal))
        taken = nodes.reference | nodes.title | nodes.rubric
        if any(isinstance(each, taken) for each in parents):
            continue
        if not isinstance(literal.parent, nodes.TextElement):
            continue
        target = _target(app.env, literal.astext())
        if target is None or target[1] in {name for each in parents for name in each["ids"]}:
            continue
        section = next((each for each in parents if isinstance(each, nodes.section)), doctree)
        key = (id(section), literal.astext())
        if key not in linked:
            linked.add(key)
            page, anchor = target
            link = make_refnode(app.builder, docname, page, anchor, literal.deepcopy())
            literal.parent.replace(literal, link)


_OPTIONS = re.compile(r"(?:\[[\w:-]+\]|/?[\w.]+ ?= ?.*)?")
#: What the first line of a block of commands begins with.
_COMMAND = re.compile(
    r"(?:export |for |[\w-]+=\S|[\w./]*\b(?:apt-get|cd|cp|curl|chown|docker|git|glance[\w-]*"
    r"|grep|install|kill|mkdir|mysqldump|openssl|openstack|pip|pipx|promtool|python3?|rm|runuser"
    r"|sed|systemctl|tar|test|towncrier|useradd|varnishd|wget)(?: |$))"
)


def language(text: str) -> str:
    """Return the language of a literal block for Pygments; `none` if it is not known."""
    lines = text.splitlines()
    if any(line.startswith("$ ") for line in lines):
        return "console"
    if _COMMAND.match(text):
        return "sh"
    if _is_python(text):
        return "python"
    if "=" in text and all(map(_OPTIONS.fullmatch, lines)):
        return "ini"
    if re.match(r"\w+:$", lines[0]):
        return "yaml"
    return "json" if text[0] in "{[" and _is_json(text) else "none"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _is_python(text: str) -> bool:
    """Whether a text is a program, and not words that could be one."""
    try:
        found = ast.parse(text).body
    except (SyntaxError, ValueError):
        return False
    calls = any(isinstance(each, ast.Call) for line in found for each in ast.walk(line))
    return calls or any(isinstance(each, ast.Import | ast.ImportFrom) for each in found)


def find_languages(app: Sphinx, doctree: nodes.document) -> None:
    """Let the blocks that name no language be coloured by that of their text."""
    for block in doctree.findall(nodes.literal_block):
        if "language" not in block and block.astext().strip():
            block["language"] = language(block.astext())
            # No warning for what is shortened with dots.
            block["force"] = True


def mend_docstring(
    app: Sphinx, kind: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Make markup of what docstrings mean; drop the numbers that Python has for named fields."""
    if lines and lines[0].startswith("Alias for field number "):
        lines.clear()
    for at in range(len(lines) - 2):
        here, between, after = lines[at : at + 3]
        indent = " " * (len(here) - len(here.lstrip()) + 4)
        # In docstrings, a sample follows a plain colon.
        if re.search(r"[^:]:$", here) and not between.strip() and after.startswith(indent):
            lines[at] += ":"


def _parents(node: nodes.Node) -> Iterator[nodes.Element]:
    while node.parent is not None:
        node = node.parent
        yield node


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("modules", Modules)
    app.add_directive("unreleased", Unreleased)
    app.add_directive("upgrade-notes", UpgradeNotes)
    app.connect("doctree-read", find_languages)
    app.connect("doctree-resolved", link_names)
    app.connect("autodoc-process-docstring", mend_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
