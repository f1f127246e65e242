"""What becomes of an image whose upload has failed, or was abandoned by a process that died."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: The value of the field `upload_via` for an upload by version 2 of the API.
V2: Final = "v2"
#: The values of a record whose upload has failed.
Outcome = Mapping[str, Any]
#: By version 1 of the API nobody can upload to such a record again.
KILLED: Final[Outcome] = {"status": "killed"}
#: The values of a record that is queued and stays so: with the name of an attempt, its begin is
#: refused from now on.
STILL_QUEUED: Final[Outcome] = {"status": "queued"}


def queued_again(size: int | None) -> Outcome:
    """Return the outcome after which the data can be uploaded again.

    `size` is that of the record before the upload, in bytes.
    """
    return {"status": "queued", "size": size or 0, "upload_via": None}


def begun(outcome: Outcome) -> dict[str, Any]:
    """Return the values of a record whose upload begins, and has this outcome if it fails."""
    values: dict[str, Any] = {"status": "saving"}
    if outcome["status"] == "queued":
        values["upload_via"] = V2
    return values


def outcome_of(record: Mapping[str, Any]) -> Outcome:
    """Return the outcome of an upload of which no more is known than the record of its image."""
    return queued_again(0) if record.get("upload_via") == V2 else KILLED
