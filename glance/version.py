"""The version of this release; packaging and `--version` read it from here."""

VERSION = "1.0.0"


def version_string() -> str:
    """Return the version in the form that programs print."""
    return VERSION


def canonical_version_string() -> str:
    """Return the version without a pre-release suffix; releases have none."""
    return VERSION
