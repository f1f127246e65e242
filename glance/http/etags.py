"""Entity tags as HTTP writes them (RFC 9110 §8.8.3, §13.1): parsed, compared and formatted here.

The API compares the conditions of its clients with the checksum of an image; stores read the tags
that backends give their objects. What does not belong here: what a tag is made of, and what
happens if a condition holds.
"""

from __future__ import annotations

import dataclasses
import re

# Up to the next comma outside of quotes. Each alternative runs over its text once only.
_ELEMENT = re.compile(r'[ \t]*(?:W/)?"[^"]*"[^,]*|[^,]+')
# WIRE: shipped clients and backends leave the quotes out, so a tag without any is taken as well.
_TAG = re.compile(r'(W/)?(?:"([!#-~\x80-\xff]*)"|([!#-+\--~\x80-\xff]+))')


@dataclasses.dataclass(frozen=True, slots=True)
class ETag:
    """One tag: the text between its quotes (none in it), and whether it is a weak one."""

    value: str
    weak: bool = False

    def __str__(self) -> str:
        """Return the tag as a header has it: quoted; a weak one with its mark."""
        return f'W/"{self.value}"' if self.weak else f'"{self.value}"'


@dataclasses.dataclass(frozen=True, slots=True)
class ETags:
    """The condition in If-Match, If-None-Match or If-Range: some tags, or all by `*`."""

    tags: tuple[ETag, ...] = ()
    wildcard: bool = False

    def match(self, tag: ETag | str | None, *, weak: bool = True) -> bool:
        """Return whether the condition names `tag`, a strong one if it is only a text.

        By the `weak` comparison the texts have to be equal; without it, both have to be strong as
        well (RFC 9110 §8.8.3.2). Nothing matches a tag that is None or an empty text.
        """
        if not tag:
            return False
        if self.wildcard:
            return True
        value, is_weak = (tag, False) if isinstance(tag, str) else (tag.value, tag.weak)
        for each in self.tags:
            if each.value == value and (weak or not (is_weak or each.weak)):
                return True
        return False

    def __str__(self) -> str:
        """Return the header's value, which is empty if there are no tags."""
        return "*" if self.wildcard else ", ".join(map(str, self.tags))


def parse_etags(header: str | None) -> ETags:
    """Return the condition that a header holds; what is malformed in it is left out."""
    # PERF: nearly all conditions are a single tag.
    only = parse_etag(header)
    if only is not None and only.value != "*":
        return ETags((only,))
    tags = []
    for element in _ELEMENT.findall(header or ""):
        if element.strip(" \t") == "*":
            return ETags(wildcard=True)
        tag = parse_etag(element)
        if tag is not None:
            tags.append(tag)
    return ETags(tuple(tags))


def parse_etag(header: str | None) -> ETag | None:
    """Return the one tag in an ETag header; None if the header is missing or malformed."""
    match = _TAG.fullmatch(header.strip(" \t")) if header else None
    if match is None:
        return None
    mark, quoted, bare = match.groups()
    return ETag(bare if quoted is None else quoted, mark is not None)


def strong(header: str | None) -> str | None:
    """Return the text of the tag in an ETag header if it is a strong one that is well formed.

    For a tag that goes on to others, who may take no other form (RFC 9110 §8.8.3).
    """
    tag = parse_etag(header)
    quoted = header is not None and header.strip(" \t").startswith('"')
    return tag.value if tag is not None and quoted and not tag.weak and tag.value else None


def opaque(header: str | None) -> str:
    """Return the text of the tag in an ETag header, "" if the header is missing or malformed."""
    tag = parse_etag(header)
    return "" if tag is None else tag.value
