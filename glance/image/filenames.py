"""The name of the file in which a client saves an image, and the header that proposes it."""

from __future__ import annotations

import functools
import re
import unicodedata
import urllib.parse

#: Characters of a name without its extension, and bytes of it in UTF-8. File systems have 255.
_MOST = 200
#: Extensions that are used for data of any disk format.
_ANY_FORMAT = (".img",)

# What separates directories, or means something to a shell or to Windows.
_UNSAFE = re.compile(r'[/\\<>:"|?*]')
# Names of devices in Windows, whatever their extension.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
# What stands in the extended value of a parameter as it is (RFC 8187 §3.2.1).
_ATTR_SAFE = "!#$&+-.^_`|~"


@functools.lru_cache(maxsize=1024)
def file_name(image_id: object, name: str | None, disk_format: str | None) -> str:
    """Return a file name for an image: its name, with its disk format as the extension.

    SECURITY: whoever named the image chose the text. The result is the name of one visible file,
    on every system: without separators, leading dots, and characters that cannot be seen or turn
    the direction of text. Without a name, or if nothing is left of it, it has the id.
    """
    text = unicodedata.normalize("NFC", name or "")
    # Categories C and Z: control, format, surrogate, unassigned; separators, of which a blank is
    # harmless.
    shown = "".join(
        " " if unicodedata.category(one)[0] == "Z" else one
        for one in text[: 4 * _MOST]
        if unicodedata.category(one)[0] != "C"
    )
    shown = _UNSAFE.sub("_", " ".join(shown.split())).strip(". ")
    extension = _extension(disk_format)
    stem = shown
    if extension and shown.lower().endswith(extension):
        stem = shown[: -len(extension)]
    elif shown.lower().endswith(_ANY_FORMAT):
        stem, extension = shown[:-4], shown[-4:]
    stem = stem.encode("utf-8")[:_MOST].decode("utf-8", "ignore").strip(". ")
    if not stem.strip("_"):
        stem = f"image-{image_id}"
    return _guarded(stem + extension)


def _guarded(name: str) -> str:
    """Return a name without separators and leading dots that is no device and no option."""
    name = _UNSAFE.sub("_", name).strip(". ")
    # A hyphen would make it an option of many programs.
    return f"_{name}" if _DEVICE.fullmatch(name) or name.startswith("-") else name


def _extension(disk_format: str | None) -> str:
    # NOTE: an operator may permit formats with any names.
    word = re.sub(r"[^a-z0-9]", "", (disk_format or "").lower())[:20]
    return f".{word}" if word else ""


@functools.lru_cache(maxsize=1024)
def disposition(name: str) -> str:
    """Return the Content-Disposition that has a client save a response as a file `name`.

    RFC 6266 §4.3 and appendix D: text in ASCII for everybody, and in UTF-8 (RFC 8187) for those
    who understand it, if it differs.
    """
    letters = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    # NOTE: some clients decode percent signs in the plain form.
    plain = re.sub(r"[^ -~]|%", "_", plain)
    plain = re.sub(r"^_[_ ]*(?=\.|$)", "image", plain)
    # SECURITY: wide forms of quotes, slashes and dots have become those that count.
    plain = _guarded(plain) or "image"
    value = f'attachment; filename="{plain}"'
    if plain != name:
        value += f"; filename*=UTF-8''{urllib.parse.quote(name, safe=_ATTR_SAFE)}"
    return value
