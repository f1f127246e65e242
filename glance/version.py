"""The version of this release, in one place; packaging and `--version` read it from here."""

VERSION = "1.0.0"


def version_string() -> str:
    """Return the version as the programs print it."""
    return VERSION


def canonical_version_string() -> str:
    """Return the version without a mark of its state; the same thing for releases."""
    return VERSION
