"""The sessions that the administrator's manual of Diablo prints, and how they are replayed.

An `Example` has the command as printed and what is printed below it, line by line; times, seconds
and the store's directory stand as <time>, <seconds> and /tmp/images. Where this release prints
more or less by intention, the example says so, so that a comparison is exact all the same.

`python tests/support/manual.py` replays chapter 9 and shows both sides.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
import pathlib
import re
import subprocess
import sys
import tempfile

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from support import daemons

#: The address that the manual's session speaks with.
HOST = "65.114.169.29"
IMAGE = "/tmp/images/myimage.iso"
SIZE = 58520278

#: The server counts on, so each part of the session that begins with image 1 has ids of its own.
PARTS = {"list": 0, "add": 1000, "clear": 2000}


@dataclasses.dataclass(frozen=True)
class Example:
    """One command of the manual and the lines below it.

    `part` tells whose images the ids in it are. `more` are lines that this release adds, `fewer`
    lines of the manual that it leaves out. `answers` is typed when the command asks.
    """

    command: str
    manual: str
    part: str = "list"
    more: tuple[str, ...] = ()
    fewer: tuple[str, ...] = ()
    answers: str = ""

    @property
    def name(self) -> str:
        """The command without its address and redirection."""
        return re.sub(r" (--host=\S+|< \S+)", "", self.command)

    def wanted(self) -> list[str]:
        """Return the manual's lines but for those that are left out on purpose."""
        lines = self.manual.strip("\n").split("\n") if self.manual else []
        return [line for line in lines if line not in self.fewer]


#: Diablo itself has these lines, the manual is older.
MINIMA = ("Minimum Ram Required (MB): 0", "Minimum Disk Required (GB): 0")
ROWS = {
    "checksum": "<md5>",
    "min_disk": "0",
    "min_ram": "0",
    "owner": "None",
    "protected": "False",
}


def row(name: str, value: object) -> str:
    return f" {name:>30} => {value}"


def rows(**values: object) -> str:
    return "\n".join(row(name, value) for name, value in sorted(values.items()))


def more_rows(*names: str, **values: str) -> tuple[str, ...]:
    return tuple(row(name, {**ROWS, **values}[name]) for name in (names or ROWS))


UBUNTU_10_10 = """\
URI: http://example.com/images/1
Id: 1
Public: Yes
Name: Ubuntu 10.10
Status: active
Size: 58520278
Location: file:///tmp/images/1
Disk format: vhd
Container format: ovf
Property 'distro': Ubuntu
Property 'distro_version': 10.10"""

UBUNTU_10_04 = """\
URI: http://example.com/images/2
Id: 2
Public: Yes
Name: Ubuntu 10.04
Status: active
Size: 58520278
Location: file:///tmp/images/2
Disk format: ami
Container format: ami
Property 'distro': Ubuntu
Property 'distro_version': 10.04"""

FEDORA_9 = """\
URI: http://example.com/images/3
Id: 3
Public: Yes
Name: Fedora 9
Status: active
Size: 3040
Location: file:///tmp/images/3
Disk format: vdi
Container format: bare
Property 'distro': Fedora
Property 'distro_version': 9"""

VANILLA = """\
URI: http://example.com/images/4
Id: 4
Public: Yes
Name: Vanilla Linux 2.6.22
Status: active
Size: 0
Location: http://example.com/images/vanilla.iso
Disk format: qcow2
Container format: bare"""

RULE = "=" * 80
MY_IMAGE = """\
Updated image 5
Updated image metadata for image 5:
URI: http://example.com/images/5
Id: 5
Public: Yes
Name: My Image
Status: active
Size: 5395202193
Location: file:///tmp/images/5
Disk format: raw
Container format: ovf
Completed in <seconds> sec."""

SHARERS = "\n\n(*: Can share image)"

CHAPTER_9 = (
    # Listing: four images.
    Example(
        "glance index --host=65.114.169.29",
        """\
ID               Name                           Disk Format          Container Format     Size          
---------------- ------------------------------ -------------------- -------------------- --------------
1                Ubuntu 10.10                   vhd                  ovf                        58520278
2                Ubuntu 10.04                   ami                  ami                        58520278
3                Fedora 9                       vdi                  bare                           3040
4                Vanilla Linux 2.6.22           qcow2                bare                              0
""",  # noqa: E501, W291 - the table is as wide as that, to its trailing blanks
    ),
    Example(
        "glance details --host=65.114.169.29",
        "\n".join(
            line
            for block in (UBUNTU_10_10, UBUNTU_10_04, FEDORA_9, VANILLA)
            for line in (RULE, *block.split("\n"))
        )
        + f"\n{RULE}",
        more=MINIMA * 4,
        # A location may tell of the store, so listings have none.
        fewer=(
            "Location: file:///tmp/images/1",
            "Location: file:///tmp/images/2",
            "Location: file:///tmp/images/3",
            "Location: http://example.com/images/vanilla.iso",
        ),
    ),
    Example("glance show 3 --host=65.114.169.29", FEDORA_9, more=MINIMA),
    Example("glance image-members 3 --host=65.114.169.29", f"tenant1\ntenant2 *{SHARERS}"),
    Example("glance member-images tenant1 --host=65.114.169.29", f"1\n2 *{SHARERS}"),
    Example("glance member-add 1 tenant1 --host=65.114.169.29", ""),
    Example("glance member-add 1 tenant2 --can-share --host=65.114.169.29", ""),
    Example("glance member-delete 1 tenant1", ""),
    Example("glance member-delete 1 tenant2", ""),
    Example("glance members-replace 1 tenant1 --can-share --host=65.114.169.29", ""),
    # Adding. The manual leaves is_public out here, and shows a public image all the same.
    Example(
        'glance --verbose add name="Some web image" disk_format=vhd container_format=ovf '
        'location="http://example.com/images/myimage.vhd" is_public=true',
        "Added new image with ID: 1\nReturned the following metadata for the new image:\n"
        + rows(
            container_format="ovf",
            created_at="<time>",
            deleted=False,
            deleted_at=None,
            disk_format="vhd",
            id=1,
            is_public=True,
            location="http://example.com/images/myimage.vhd",
            name="Some web image",
            properties={},
            size=0,
            status="active",
            updated_at=None,
        )
        + "\nCompleted in <seconds> sec.",
        part="add",
        more=(*more_rows(checksum="None"), row("updated_at", "<time>")),
        fewer=(row("updated_at", None),),
    ),
    Example(
        'glance add name="My Image" is_public=true < /tmp/images/myimage.iso --host=65.114.169.29',
        "Added new image with ID: 2",
        part="add",
    ),
    Example(
        'glance --verbose add name="My Image" is_public=true < /tmp/images/myimage.iso '
        "--host=65.114.169.29",
        "Added new image with ID: 4\nReturned the following metadata for the new image:\n"
        + rows(
            container_format="ovf",
            created_at="<time>",
            deleted=False,
            deleted_at=None,
            disk_format="raw",
            id=4,
            is_public=True,
            location="file:///tmp/images/4",
            name="My Image",
            properties={},
            size=SIZE,
            status="active",
            updated_at=None,
        )
        + "\nCompleted in <seconds> sec.",
        part="add",
        more=(*more_rows(), row("updated_at", "<time>")),
        fewer=(row("updated_at", None),),
    ),
    Example(
        'glance --dry-run add name="Foo" distro="Ubuntu" is_publi=True < /tmp/images/myimage.iso '
        "--host=65.114.169.29",
        "Dry run. We would have done the following:\nAdd new image with metadata:\n"
        + rows(
            container_format="ovf",
            disk_format="raw",
            is_public=False,
            name="Foo",
            properties={"distro": "Ubuntu", "is_publi": "True"},
        ),
        part="add",
        more=(
            *more_rows("min_disk", "min_ram"),
            "glance: is_publi is taken for a custom property; did you mean is_public?",
        ),
    ),
    # Updating and deleting image 5.
    Example("glance update 5 is_public=true --host=65.114.169.29", "Updated image 5", part="add"),
    Example(
        "glance --verbose update 5 is_public=true --host=65.114.169.29",
        MY_IMAGE,
        part="add",
        # Nobody uploads five gigabytes to see this.
        more=(*MINIMA, "Size: 4"),
        fewer=("Size: 5395202193",),
    ),
    Example(
        "glance --verbose delete 5 --host=65.114.169.29",
        "Deleted image 5\nCompleted in <seconds> sec.",
        part="add",
        answers="y\n",
    ),
    # Clearing: the images are there before.
    Example(
        "glance --verbose clear --host=65.114.169.29",
        'Deleting image 1 "Some web image" ... done\n'
        'Deleting image 2 "Some other web image" ... done\n'
        "Completed in <seconds> sec.",
        part="clear",
        answers="y\n",
    ),
)


class Session:
    """A site, a shell in which `glance` speaks with it, and the replay of examples there."""

    def __init__(self, site: daemons.Site, directory: pathlib.Path):
        self.site, self.directory = site, directory
        self.image = directory / "myimage.iso"
        with self.image.open("wb") as image:
            image.truncate(SIZE)
        shims = directory / "bin"
        shims.mkdir()
        shim = shims / "glance"
        program = f'exec {sys.executable} {daemons.BIN / "glance"} "$@" --port={site.port}'
        shim.write_text(f"#!/bin/sh\n{program}\n")
        shim.chmod(0o755)
        self.environ = daemons.environment()
        self.environ["PATH"] = f"{shims}{os.pathsep}{self.environ['PATH']}"

    def shell(self, line: str, answers: str = "") -> str:
        """Run a line and return both outputs; AssertionError if it fails."""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.directory,
            env=self.environ,
            input=answers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    def replay(self, example: Example) -> list[str]:
        """Run an example here and return what it prints, in the manual's terms."""
        line = example.command.replace(HOST, "127.0.0.1").replace(IMAGE, str(self.image))
        base = PARTS[example.part]
        line = re.sub(r" (\d)(?= |$)", lambda match: f" {int(match[1]) + base}", line)
        return self.normal(self.shell(line, example.answers))

    def normal(self, text: str) -> list[str]:
        """Return lines with what differs from run to run taken out."""
        # NOTE: first, because what follows may find something to take out in its name.
        text = text.replace(f"file://{self.site.data_dir}/", "file:///tmp/images/")
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+", "<time>", text)
        text = re.sub(r"Completed in [\d.]+ sec", "Completed in <seconds> sec", text)
        text = re.sub(r"\b[0-9a-f]{32}\b", "<md5>", text)
        text = re.sub(r"\b[12]00(\d)\b", r"\1", text)
        text = re.sub(r"http://127\.0\.0\.1:\d+/v1/", "http://example.com/", text)
        # The manual shows its sessions without the questions that it describes beside them.
        text = re.sub(r"^Delete .*\? \[y/N\] ", "", text)
        return text.rstrip("\n").split("\n") if text else []

    # -- what the manual takes for granted -------------------------------------------------------

    def add(self, image_id: int, *fields: str, data: str = "/dev/null") -> None:
        quoted = " ".join(f"'{field}'" for field in fields)
        self.shell(f"glance add id={image_id} is_public=true {quoted} < {data}")

    def add_listed(self) -> None:
        """Add the four images of the listings, so that the newest is the first."""
        small = self.directory / "small"
        small.write_bytes(b"F" * 3040)
        location = "location=http://example.com/images/vanilla.iso"
        ubuntu = ["distro=Ubuntu", "distro_version=10.10"]
        self.add(
            4, "name=Vanilla Linux 2.6.22", "disk_format=qcow2", "container_format=bare", location
        )
        fedora = ["disk_format=vdi", "container_format=bare", "distro=Fedora", "distro_version=9"]
        self.add(3, "name=Fedora 9", *fedora, data=str(small))
        amazon = ["disk_format=ami", "container_format=ami", "distro=Ubuntu"]
        self.add(2, "name=Ubuntu 10.04", *amazon, "distro_version=10.04", data=str(self.image))
        self.add(1, "name=Ubuntu 10.10", "disk_format=vhd", *ubuntu, data=str(self.image))
        for line in (
            "member-add 3 tenant1",
            "member-add 3 tenant2 --can-share",
            "member-add 2 tenant1 --can-share",
            "member-add 1 tenant1",
        ):
            self.shell(f"glance {line}")

    def prepare(self, example: Example) -> None:
        """Bring about what the manual supposes when it comes to an example."""
        name = example.name
        if name.startswith("glance member-images"):
            # Image 3 is for tenant1 in one example and is not in the next.
            self.shell("glance member-delete 3 tenant1")
        elif "Some web image" in name:
            self.skip(1000)
        elif name.startswith('glance --verbose add name="My Image"'):
            self.skip(1003)
        elif name.startswith("glance update 5"):
            small = self.directory / "four"
            small.write_bytes(b"four")
            self.add(1005, "name=My Image", data=str(small))
        elif name.startswith("glance --verbose clear"):
            self.shell("glance --force clear")
            self.add(2001, "name=Some web image")
            self.add(2002, "name=Some other web image")

    def skip(self, image_id: int) -> None:
        """Use up ids to this one."""
        self.add(image_id, "name=skipped")
        self.shell(f"glance --force delete {image_id}")


def replay_chapter_9(session: Session) -> dict[str, list[str]]:
    """Replay all examples in order; return what each printed, by its name."""
    session.add_listed()
    printed = {}
    for example in CHAPTER_9:
        session.prepare(example)
        printed[example.name] = session.replay(example)
    return printed


def side_by_side(example: Example, ours: list[str], width: int = 98) -> str:
    """Return the manual's lines and ours in two columns, with a mark where they differ."""
    left = example.manual.strip("\n").split("\n") if example.manual else []
    lines = [f"$ {example.command}"]
    matcher = difflib.SequenceMatcher(None, left, ours, autojunk=False)
    for _, start, end, our_start, our_end in matcher.get_opcodes():
        pairs = itertools.zip_longest(left[start:end], ours[our_start:our_end], fillvalue="")
        for one, two in pairs:
            lines.append(f"{one:{width}} {' ' if one == two else '|'} {two}".rstrip())
    return "\n".join(lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        with daemons.Site(directory / "site") as site:
            printed = replay_chapter_9(Session(site, directory))
    for example in CHAPTER_9:
        print(side_by_side(example, printed[example.name]), end="\n\n")


if __name__ == "__main__":
    main()
