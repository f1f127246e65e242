"""The page request.rst and its picture: how a request travels, drawn from the table `DOWNLOAD`.

`glance.cli.docs.pages` writes both. The picture is plain SVG, which this module makes itself: a
build needs no other program and no network. It is as narrow as a telephone, and its colours can be
read on a light page and on a dark one.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape


class Step(NamedTuple):
    """A step of a request: where it is made, its name, the module, and a text for the page."""

    place: str
    name: str
    module: str
    text: str


API, REGISTRY, STORE = "glance-api", "glance-registry", "store"

#: What happens to `GET /v1/images/7`, in order.
DOWNLOAD: tuple[Step, ...] = (
    Step(
        API,
        "Accept the connection",
        "glance/http/server/worker.py",
        "One of the worker processes accepts the connection. From here on, a green thread of its "
        "own serves this client.",
    ),
    Step(
        API,
        "Read the request",
        "glance/http/server/parser.py",
        "The parser is strict where leniency has been used to smuggle requests past a proxy. What "
        "it refuses is a 400, and the connection ends.",
    ),
    Step(
        API,
        "Find the API version",
        "glance/api/middleware/version_negotiation.py",
        "The path names the version, or the header Accept does. This is the first filter of the "
        "pipeline in the configuration file.",
    ),
    Step(
        API,
        "Know the caller",
        "glance/identity/context.py",
        "With Keystone, the token filter has confirmed who makes the request; this filter makes "
        "the request context of it, which every later step is given.",
    ),
    Step(
        API,
        "Offer the image cache",
        "glance/api/middleware/cache.py",
        "The filter only passes the cache on. It sends nothing by itself, so no request gets past "
        "the checks of the next steps.",
    ),
    Step(
        API,
        "Call the controller",
        "glance/api/v1/images.py",
        "The router finds the resource and the method for the path. An error that is raised from "
        "here on becomes a response by the table in ``glance/common/httperror.py``.",
    ),
    Step(
        API,
        "Ask the registry",
        "glance/registry/link.py",
        "One HTTP request on a connection that is kept open, with the caller's token.",
    ),
    Step(
        REGISTRY,
        "Serve the record",
        "glance/registry/server.py",
        "The registry is a WSGI application behind the same server, and finds out itself who the "
        "caller is.",
    ),
    Step(
        REGISTRY,
        "Read the database",
        "glance/registry/db/api.py",
        "One transaction. Whether the caller may see the image is a part of the statement "
        "(``glance/registry/db/visibility.py``); an image that is out of sight is a 404.",
    ),
    Step(
        API,
        "Check the conditions",
        "glance/http/conditions.py",
        "The status of the image, the rule ``policy_download_image``, and ``If-None-Match`` and "
        "its kin: a client that has the data already gets a 304 without it.",
    ),
    Step(
        API,
        "Open the data",
        "glance/api/download.py",
        "From the image cache if it has the image, otherwise from the store of the location. The "
        "length is known before the first byte is sent.",
    ),
    Step(
        STORE,
        "Read the data",
        "glance/store/base.py",
        "A driver reads a file, or the response of Swift, S3 or a web server, in pieces. Blocking "
        "reads run in native threads.",
    ),
    Step(
        API,
        "Send the response",
        "glance/http/server/exchange.py",
        "Piece by piece, as fast as the client takes them; a file goes to the socket inside the "
        "kernel (``glance/http/server/sendfile.py``). If the data ends early, the connection "
        "breaks, so that nobody takes a part for the whole.",
    ),
    Step(
        API,
        "Log the request",
        "glance/http/server/access.py",
        "One line with status, bytes and seconds. The connection waits for the next request.",
    ),
)

INTRO = """\
For developers, and for operators who look for the place where a request is stuck: the way of
``GET /v1/images/7``, the download of an image, through both daemons. Each number in the picture is
a step in the list below it, with the module that has the code.

.. image:: {picture}
   :alt: The steps of the list below, each in the daemon or store that makes it.
   :width: {width}
   :class: travel

"""

REST = """\
Other requests
==============

``HEAD`` ends with step 10, and a list has other steps 8 and 9
(``glance/registry/db/image_list.py``). Version 2 of the API (``glance/api/v2/images.py``) takes
the same way; only the controllers differ.

An upload takes the same way up to step 6, and then goes through the transaction of
``glance/api/upload.py``: reserve a record, stage the data in a store, receive it, verify it,
commit it, activate the record. :doc:`/explanation/architecture` describes the steps and what each
failure leaves behind. At the end, ``glance/notifier/events.py`` decides whether an event is sent;
the caller does not wait for that (``glance/notifier/publisher.py``).

To follow one request through the logs of both daemons, look for its id: the response has it in the
header ``x-openstack-request-id``, and glance-api passes it on to the registry.
"""

WIDTH = 380
_STEP = 44
_BOX = 34
_HEAD = 58
#: Of each place: left edge, width, fill, line.
_LANES = {
    API: (14, 216, "#dbe9ff", "#2b5fb8"),
    REGISTRY: (150, 216, "#dcf3e2", "#23794a"),
    STORE: (150, 216, "#fdebcf", "#9a6200"),
}


def page(picture: str) -> str:
    """Return the page; `picture` is the name of its picture."""
    title = "How a request travels"
    parts = [
        ".. Made by `tox -e docs`; the steps are in glance/cli/docs/travel.py.\n\n",
        f"{'=' * len(title)}\n{title}\n{'=' * len(title)}\n\n",
        INTRO.format(picture=picture, width=WIDTH),
        "The steps\n=========\n\n",
    ]
    for number, step in enumerate(DOWNLOAD, 1):
        lead = f"{number}. "
        text = f"**{step.name}** (``{step.module}``). {step.text}"
        parts.append(
            textwrap.fill(
                text,
                100,
                initial_indent=lead,
                subsequent_indent=" " * len(lead),
                break_long_words=False,
                break_on_hyphens=False,
            )
            + "\n"
        )
    return "".join(parts) + "\n" + REST


def picture(steps: Sequence[Step] = DOWNLOAD) -> str:
    """Return the picture of steps as SVG: a box for each, in the colour of its place."""
    height = _HEAD + len(steps) * _STEP + 6
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        "<!-- Made by `tox -e docs`; the steps are in glance/cli/docs/travel.py. -->\n",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">\n',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#f7f8fa"/>\n',
        *_legend(),
    ]
    for number, step in enumerate(steps):
        top = _HEAD + number * _STEP
        left, width, fill, line = _LANES[step.place]
        if number:
            parts.append(_arrow(steps[number - 1], step, top))
        parts.append(
            f'<rect x="{left}" y="{top}" width="{width}" height="{_BOX}" rx="6" fill="{fill}" '
            f'stroke="{line}"/>\n'
            f'<text x="{left + 12}" y="{top + 22}" fill="{line}" font-weight="bold">'
            f"{number + 1}</text>\n"
            f'<text x="{left + 36}" y="{top + 22}" fill="#1c1e21">{escape(step.name)}</text>\n'
        )
    return "".join([*parts, "</svg>\n"])


def _legend() -> list[str]:
    parts, left = [], 14
    for place, (_, _, fill, line) in _LANES.items():
        parts.append(
            f'<rect x="{left}" y="18" width="14" height="14" rx="3" fill="{fill}" '
            f'stroke="{line}"/>\n<text x="{left + 20}" y="30" fill="#1c1e21">{place}</text>\n'
        )
        left += 40 + 8 * len(place)
    return parts


def _arrow(before: Step, after: Step, top: int) -> str:
    """Return the arrow into the box that begins at `top`, in the column that both boxes share."""
    edges = [_LANES[step.place] for step in (before, after)]
    left = max(edge[0] for edge in edges)
    right = min(edge[0] + edge[1] for edge in edges)
    middle = (left + right) // 2
    start = top - (_STEP - _BOX)
    return (
        f'<path d="M{middle} {start} V{top - 4}" stroke="#5f6670" stroke-width="1.5"/>\n'
        f'<path d="M{middle - 4} {top - 6} h8 l-4 6 z" fill="#5f6670"/>\n'
    )
