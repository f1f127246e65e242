"""How Sphinx makes the book of these pages."""

project = "glance"
author = "The glance developers"
#: Fragments of the changelog, which is joined from them.
exclude_patterns = ["news"]
html_theme = "furo"
