"""The record on a page: what a user types after a `$`, and what the screen says to it."""

from __future__ import annotations

import re

from support import shells

#: What differs from one replay to the next, and what it counts as.
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?"), "(time)"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "(date)"),
    (re.compile(r"\breq-[0-9a-f-]{36}\b"), "(request)"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "(uuid)"),
    (re.compile(r"\b\d+(?:\.\d+)? ?[kKMG]i?B/s"), "(speed)"),
    (re.compile(r"\b\d+(?:\.\d+)? seconds?\b"), "(seconds)"),
    # What is shown of an upload that is refused depends on how soon the refusal comes.
    (re.compile(r"^ *\S+  100%  512 bytes of 512 bytes *\n", re.MULTILINE), ""),
)
#: Colors and links of a terminal (ECMA-48: CSI and OSC sequences).
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|\x1b\][^\x1b\x07]*(?:\x1b\\|\x07)")
COMMAND = re.compile(r"^    \$ (.*)$")


def masked(text: str) -> str:
    """Return a page with what differs from one replay to the next made equal."""
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return text


def screen(told: str) -> str:
    """Return what a terminal shows in the end: of a line that was written over, the last text."""
    plain = CONTROL.sub("", told).split("\n")
    return "\n".join(line.rstrip().rpartition("\r")[2] for line in plain)


def replay(page: str, shell: shells.Shell) -> str:
    """Return a page with what its commands say now, each run in turn by the shell.

    What follows a command, up to the next one or to the end of the literal block, is what it said.
    A block that begins with an import is a file, which the text before names.
    """
    done: list[str] = []
    lines = page.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        done.append(line)
        if line.startswith("    from "):
            begin = at - 1
            while lines[at].startswith("    ") or not lines[at]:
                at += 1
            done += lines[begin + 1 : at]
            (name,) = re.findall(r"``(\w+\.py)``::\n\n\Z", "\n".join(lines[:begin]) + "\n")
            text = "\n".join(each[4:] for each in lines[begin:at])
            shell.run(f"cat > {name} <<'END-OF-FILE'\n{text}END-OF-FILE")
        elif command := COMMAND.match(line):
            at = _end(lines, at)
            said = screen(shell.ask(command[1])[1]).strip("\n")
            done += [f"    {each}".rstrip() for each in said.split("\n")] if said else []
    return "\n".join(done)


def _end(lines: list[str], at: int) -> int:
    """Return where what a command said ends: at the next command, or at text of the page."""
    for place in range(at, len(lines)):
        if COMMAND.match(lines[place]) or (lines[place] and not lines[place].startswith("    ")):
            break
        if lines[place]:
            at = place + 1
    return at
