"""A store that removes data as its location says: at once, never, or when it is told to.

Programs under test load it by `known_stores = support.stores.Scripted`. A location is
`script://<behaviour>/<image id>`; what it is asked to remove is noted in the file that the
variable `SCRIPTED_STORE_JOURNAL` names, a line for each attempt, another when it is done. A file
beside it with the suffix `.go` lets everything that waits go on; with `.hang`, sweeps never end.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import threading
import time

from glance.common import exception
from glance.store import base, location
from glance.store.base import Capability

JOURNAL = "SCRIPTED_STORE_JOURNAL"


@dataclasses.dataclass(frozen=True, repr=False)
class Script(location.StoreLocation):
    schemes = ("script",)

    behaviour: str
    image_id: str

    @classmethod
    def parse(cls, uri: str) -> Script:
        return cls(*location.split_scheme(uri, cls.schemes)[1].split("/"))

    def _format(self, user: str) -> str:
        return f"script://{user}{self.behaviour}/{self.image_id}"


class Scripted(base.Store):
    name = "script"
    schemes = Script.schemes
    location_class = Script
    capabilities = Capability.READ | Capability.WRITE | Capability.SIZE | Capability.DELETE

    def get_size(self, location: location.Location) -> int:
        return 4

    def sweep(self) -> list[base.AbandonedWrite]:
        if _journal().with_suffix(".hang").exists():
            threading.Event().wait()
        return []

    def delete(self, location: location.Location) -> None:
        script = location.store_location
        assert isinstance(script, Script)
        _note(f"begin {script.image_id}")
        match script.behaviour:
            case "refuse":
                raise exception.StoreForbidden()
            case "away":
                raise exception.BackendUnavailable()
            case "hang":
                threading.Event().wait()
            case "wait":
                while not _journal().with_suffix(".go").exists():
                    time.sleep(0.01)
            case "slow":
                time.sleep(0.02)
        _note(f"done {script.image_id}")


def _journal() -> pathlib.Path:
    return pathlib.Path(os.environ[JOURNAL])


def _note(line: str) -> None:
    # One write each, so that lines of several processes do not mix.
    fd = os.open(_journal(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
    finally:
        os.close(fd)
