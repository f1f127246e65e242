"""doc/source/reference/metrics.rst: every metric of the daemons, from `glance.common.metrics`.

`glance.cli.docs.pages` writes it.
"""

from __future__ import annotations

import textwrap

from glance.common import metrics

GENERATED = (
    ".. Made by `tox -e docs`; the text is in glance/cli/docs/measured.py, and the table in\n"
)
GENERATED += "   glance/common/metrics.py.\n\n"

_TEXT = """\
=======
Metrics
=======

For operators: every metric that the daemons show to Prometheus. :doc:`Monitoring with Prometheus
</how-to/monitoring>` says how to switch them on, and what to watch.

The names and labels of a release stay the same in the next one, unless the changelog says so. A
series begins when what it counts happens for the first time. The values of all worker processes of
a daemon are added up; a worker that replaces a dead one counts on. What is counted is
written every 2 seconds; the state of a process is looked at every 5 seconds, sizes on disks and
queues in the database every minute. A counter begins
with 0 when the daemon starts.

No label has a tenant, a user, an id, a path, a URL or an address. The values of a label are those
that this page, a driver or the configuration names, so no caller can make the number of series
grow.

"""

_SECTIONS = (
    ("All daemons", metrics.ALL),
    ("glance-api and glance-registry", metrics.BOTH),
    ("glance-api and glance-converter", (metrics.API, metrics.CONVERTER)),
    (
        "glance-api, glance-converter and glance-scrubber",
        (metrics.API, metrics.CONVERTER, metrics.SCRUBBER),
    ),
    ("glance-registry and glance-scrubber", (metrics.REGISTRY, metrics.SCRUBBER)),
    ("glance-api", (metrics.API,)),
    ("glance-registry", (metrics.REGISTRY,)),
    ("glance-converter", (metrics.CONVERTER,)),
    ("glance-scrubber", (metrics.SCRUBBER,)),
)


def page() -> str:
    """Return the page."""
    parts = [GENERATED, _TEXT]
    for title, programs in _SECTIONS:
        parts.append(f"{title}\n{'=' * len(title)}\n\n")
        parts += [_entry(each) for each in metrics.TABLE.values() if each.programs == programs]
    return "".join(parts).rstrip("\n") + "\n"


def _entry(metric: metrics.Metric) -> str:
    lines = [f"``{metric.name}`` ({metric.kind})", *_wrapped(metric.help)]
    if metric.buckets:
        bounds = ", ".join(f"{bound:g}" for bound in metric.buckets)
        lines += _wrapped(f"Upper bounds of the buckets, in seconds: {bounds}.")
    if metric.values:
        lines.append("")
    for label, text in metric.values.items():
        lines += _wrapped(f"* ``{label}``: {text}.", "      ")
    return "\n".join(lines) + "\n\n"


def _wrapped(text: str, rest: str = "    ") -> list[str]:
    return textwrap.wrap(
        text.replace("``", "`").replace("`", "``"),
        width=99,
        initial_indent="    ",
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=False,
    )
