"""The version of this release; packaging and `--version` read it from here."""

VERSION = "1.0.0"


def version_string() -> str:
    """Return the version in the form that programs print."""
    return VERSION


def shown(program: str) -> str:
    """Return what `--version` of a program prints."""
    return f"{program} {version_string()}"


def canonical_version_string() -> str:
    """Return the version without a pre-release suffix; releases have none."""
    return VERSION
