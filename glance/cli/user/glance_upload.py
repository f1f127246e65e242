"""The `glance-upload` program: upload a file as a public image.

It exists for old scripts; `glance add` can do more. Its own options are declared here, those for
connection and authentication in `glance.cli.user.signin`.
"""

from __future__ import annotations

import argparse
import os
import pprint
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glance.cli import streams
from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word
from glance.cli.user import signin
from glance.cli.user.screen import console, progress
from glance.image import fields, types

HOST = "127.0.0.1"

_OWN = (
    ProgramOption(
        ("--host",),
        "host",
        "Address of the Glance API server. Also GLANCE_HOST. Default: %default",
        "HOST",
        "string",
        HOST,
        ("GLANCE_HOST",),
    ),
    ProgramOption(
        ("--port",),
        "port",
        "Port of the Glance API server. Also GLANCE_PORT. Default: %default",
        "PORT",
        "int",
        9292,
        ("GLANCE_PORT",),
        least=1,
        most=65535,
    ),
    ProgramOption(
        ("--type",),
        "type",
        "Value of the property type: kernel, ramdisk, machine or raw. Default: %default",
        "TYPE",
        "string",
        "raw",
    ),
    ProgramOption(
        ("--disk-format",),
        "disk_format",
        "Disk format of the image.",
        "FORMAT",
        "string",
        choices=fields.DISK_FORMATS,
    ),
    ProgramOption(
        ("--container-format",),
        "container_format",
        "Container format of the image.",
        "FORMAT",
        "string",
        choices=fields.CONTAINER_FORMATS,
    ),
    ProgramOption(
        ("--kernel",),
        "kernel",
        "Kernel to boot the image with, stored as the property kernel_id.",
        "ID",
        "string",
    ),
    ProgramOption(
        ("--ramdisk",),
        "ramdisk",
        "Ramdisk to boot the image with, stored as the property ramdisk_id.",
        "ID",
        "string",
    ),
)
_SHARED = (
    option for option in (*signin.SERVER, *signin.IDENTITY) if option.dest not in ("host", "port")
)
OPTIONS = (*_OWN, *_SHARED)

PROGRAM = Program(
    "glance-upload",
    "Upload a file as a public image",
    """
The glance-upload program uploads a file as a public image and prints the image's metadata. It
exists for old scripts; glance add can do more.
""",
    (
        Word("<filename>", "File with the image data.", values="file"),
        Word("<name>", "Name of the image; names need not be unique."),
    ),
    (("Options", OPTIONS),),
    (
        (0, "The image is stored."),
        (1, "The upload failed; standard output says why."),
        (2, "The arguments are not valid; standard error says why."),
        (130, "The user interrupted the program."),
    ),
)


def make_parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return the program's parser; `environ` supplies defaults."""
    # WIRE: it has always accepted abbreviations, and scripts may use them.
    parser = PROGRAM.parser(environ, abbreviated=True)
    for word in ("filename", "name"):
        parser.add_argument(word, help=argparse.SUPPRESS)
    return parser


def metadata(options: argparse.Namespace) -> dict[str, Any]:
    """Return the image's attributes from the options."""
    properties = {"type": options.type}
    if options.kernel:
        properties["kernel_id"] = options.kernel
    if options.ramdisk:
        properties["ramdisk_id"] = options.ramdisk
    meta = {"name": console.decoded(options.name), "is_public": True, "properties": properties}
    for name in ("disk_format", "container_format"):
        if getattr(options, name):
            meta[name] = getattr(options, name)
    return meta


def upload(options: argparse.Namespace) -> types.DetailedImage:
    """Store the file as an image and return its attributes."""
    client = signin.make_client(options, default_host=HOST)
    with open(options.filename, "rb") as data, progress.shown(options.filename) as tell:
        return client.add_image(metadata(options), data, progress=tell)


@streams.program("glance-upload")
def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with `argv` (without its name) and return the exit code."""
    arguments: Iterable[str] = sys.argv[1:] if argv is None else argv
    options = make_parser(os.environ).parse_args(list(arguments))
    try:
        image = upload(options)
    except KeyboardInterrupt as err:
        image_id = getattr(err, "recorded_id", None)
        remains = f"; see what remains: glance show {image_id}" if image_id is not None else ""
        console.say(f"glance-upload: interrupted{remains}", to=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as err:  # top level: print every failure in one line
        # WIRE: failures go to standard output, where scripts look for them.
        text = " ".join(str(err).split())
        console.say(f"Failed to add new image. Got error: {text}")
        return 1
    print(f"Stored image. Got identifier: {pprint.pformat(image)}")
    return 0
