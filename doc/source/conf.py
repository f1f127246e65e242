"""How Sphinx makes the book of these pages; `tox -e docs` runs it."""

import pathlib
import sys

from glance.version import VERSION

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "extension"))

project = "glance"
author = "The glance developers"
project_copyright = "The glance developers; Apache License 2.0"
release = VERSION

# No intersphinx: the inventories of Python and of the libraries are on the network, and a build
# has to give the same pages without it.
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "glance_book"]
exclude_patterns = ["news"]

nitpicky = True
nitpick_ignore_regex = [
    # `name` in a docstring is a link if it names something documented. It may be an argument, too.
    ("py:obj", r"(?s).*"),
    # Types in signatures that are not glance's own; see intersphinx above.
    ("py:.*", r"(?!glance\.).*"),
    # Inner types in signatures: users of the classes need not name them.
    ("py:class", r"glance\.(http|identity|image_cache\.layout|common\.exception\.T).*"),
]
default_role = "py:obj"
highlight_language = "none"
smartquotes = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 72
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False
toc_object_entries = False

html_theme = "furo"
html_title = f"glance {release}"
html_copy_source = False
html_show_sourcelink = False
# Excerpts would be fetched, which a browser refuses for pages that are opened from the disk.
html_show_search_summary = False
html_static_path = ["_static"]
html_css_files = ["glance.css"]
