"""The page inspection.rst: which images are refused and why, from the rules of `glance.inspect`.

`glance.cli.docs.pages` writes it.
"""

from __future__ import annotations

from glance.inspect import inspector, signatures, verdict

GENERATED = ".. Made by `tox -e docs`; the text is in glance/cli/docs/inspection.py, and the\n"
GENERATED += "   rules are in glance/inspect.\n\n"

_TEXT = """\
====================
Inspection of images
====================

For operators: which disk images are dangerous, how glance recognises them, and what it does.

A disk image can name other files: a backing file, a file with its data, extents, a parent. Whoever
opens the image then reads those files. A user who uploads such an image, and has a hypervisor or
a converter open it, can get a file of that host back as the content of a disk: a password file, or
the image of somebody else. An image that is declared ``raw`` and begins like another format has
the same effect on programs that detect the format by themselves.

.. list-table::
   :header-rows: 1
   :widths: 25 75

   * - identifier
     - what happened
   * - CVE-2015-5163
     - The original service converted a QCOW2 image with a backing file, and disclosed files of its
       host.
   * - CVE-2015-5162
     - qemu-img, without limits, used all memory and processor time for a crafted image.
   * - CVE-2022-47951
     - A VMDK descriptor named any path as its flat extent.
   * - CVE-2024-32498
     - A QCOW2 image named any path as its external data file. Images that were declared raw had
       the same effect, so they are inspected, too.
   * - CVE-2024-4467
     - ``qemu-img info`` itself opened what such a name led to.

glance looks at the first MiB and the last 2 KiB of an image, in its own code. It starts no other
program, opens nothing that an image names, and needs little memory and time, whatever an image
says.

Uploads
=======

The option ``inspect_on_upload`` of ``glance-api`` decides what happens to data that a client
sends, or that is copied from elsewhere (``x-glance-api-copy-from``):

``warn`` (the default)
    The image becomes active. If its data is unsafe or in another format than declared, the image
    has the property ``inspection_result`` with one of the codes below, and the log has a warning
    that names the rule. Data without the marks of any format, and a disc (iso), can name no other
    file, whatever format was declared; this is only logged, at level INFO. The owner of an image
    can remove the property by version 1 of the API; the log is the record of it. Version 2 shows
    it as ``os_glance_inspection_result``, which only the service sets: a name that Terraform
    leaves alone. In lists of either version, ``inspection_result`` filters by it.

``enforce``
    The upload is refused with 400, and nothing is stored. The image becomes ``killed``; by version
    2 of the API it is ``queued`` again. The response has the code and says what to do; only the
    log has the rule. Data without any marks,
    and a disc, are refused, too, if the declared format is another one.

``off``
    Nothing is inspected.

The data of a container format other than ``bare``, ``aki``, ``ari`` and ``ami`` is a package with
the disk inside, so it need not be in the declared disk format. Data at a registered location is
not inspected, because glance does not read it.

To try a file first, or to check what is stored already, use ``glance-inspect``
(see :doc:`Programs </reference/programs>`)::

    glance-inspect --disk-format=qcow2 disk.qcow2

Codes
=====

The first one that applies is recorded. Programs may rely on them.

"""

_CODES = {
    verdict.Refusal.AMBIGUOUS_FORMAT: "The data has the marks of two formats or more. For "
    "example, the first 32 KiB of a disc (iso) are free, so it can begin like any other format.",
    verdict.Refusal.FORMAT_MISMATCH: "The data is in another format than the declared one. "
    "``raw``, ``aki``, ``ari`` and ``ami`` mean data without the marks of any format; a partition "
    "table or a file system is no such mark. A disc that a USB stick can hold, too, is ``iso``.",
    verdict.Refusal.UNSAFE_IMAGE: "The image breaks one of the rules below.",
    verdict.Refusal.TOO_LARGE: "The virtual disk is larger than permitted. Uploads have no such "
    "limit; ``glance-inspect`` has ``--max-virtual-size``.",
}

_RULES = """\
Rules
=====

An image in the format of a table is refused if it ...

"""

_ISO = """\
An image in the format ``iso`` (ISO 9660 or UDF) can name no other file, so it has no rules.
Whether an image in the format ``vhdx`` has a parent is written behind the first MiB, and of one in
the format ``ploop`` in another file, so all images in these two formats count as unsafe.
"""


def page() -> str:
    """Return the page."""
    parts = [GENERATED, _TEXT]
    parts += [f"``{code}``\n    {_CODES[code]}\n\n" for code in verdict.Refusal]
    parts.append(_RULES)
    for kind in inspector.FORMATS:
        if kind.rules:
            parts.append(_table(kind))
    parts.append(_ISO)
    return "".join(parts)


def _table(kind: type[verdict.DiskFormat]) -> str:
    marks = [
        f"{_shown(row.magic)} at {row.place}"
        if row.place >= 0
        else f"{_shown(row.magic)} {-row.place} bytes before the end"
        for row in signatures.SIGNATURES
        if row.format == kind.name
    ]
    rows = "".join(
        f"   * - ``{rule.name}``\n     - {rule.text}\n"
        f"     - {', '.join(rule.identifiers)}".rstrip()
        + "\n"
        for rule in kind.rules
    )
    return (
        f"``{kind.name}`` (marks: {'; '.join(marks)})\n\n"
        ".. list-table::\n   :header-rows: 1\n   :widths: 30 50 20\n\n"
        f"   * - rule\n     - the image ...\n     - see\n{rows}\n"
    )


def _shown(magic: bytes) -> str:
    """Return bytes as text if they are, else as hexadecimal digits."""
    text = magic.rstrip(b"\0\n")
    return f"``{text.decode()}``" if _is_text(text) else f"``{magic.hex(' ')}``"


def _is_text(data: bytes) -> bool:
    return data.isascii() and data.decode().isprintable()
