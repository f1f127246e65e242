"""What notifications cost a request: `python tests/bench/notifications.py --help`.

Small uploads to daemons that differ in nothing but their broker (a real RabbitMQ that is up; one
that is down; one that takes connections and never answers; none at all), in turns within one run;
and one notification against one line of a log. Medians and ratios are printed as tables that fit
into doc/source/explanation/performance.rst. RabbitMQ has to be installed (see contributing.rst).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import load
import table

from glance import notifier

from support import daemons, rabbitmq

_PAUSE = 0.05


def main() -> int:
    args = parse_args()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="glance-bench-"))
        home = pathlib.Path(directory)
        broker = rabbitmq.Rabbit(home / "rabbit")
        stack.callback(broker.stop)
        broker.start()
        silent = stack.enter_context(rabbitmq.silent_broker())
        ports = {"up": broker.port, "down": daemons.free_port(), "silent": silent, "off": None}
        sites = {
            name: stack.enter_context(site(home / name, port)) for name, port in ports.items()
        }
        image = home / "image"
        load.write_random(image, args.size * 1024)
        rates = measure(args, sites, image)
        rows = []
        for name, what in (
            ("down", "broker down"),
            ("silent", "broker silent"),
            ("off", "no notifications"),
        ):
            row = table.Row(f"upload of {args.size} KiB, {what}", "/s", "broker up")
            row.ours, row.theirs = rates[name], rates["up"]
            rows.append(row)
        rows.append(one_message(args, home, silent))
    print(table.table(rows))
    print(table.described("one worker of each daemon"))
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="KiB of an image (%(default)s)")
    parser.add_argument("--uploads", type=int, default=40, help="of a turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (%(default)s)")
    return parser.parse_args()


def site(directory: pathlib.Path, port: int | None) -> daemons.Site:
    options = {"verbose": False}
    if port is not None:
        options |= {
            "notifier_strategy": "rabbit",
            "rabbit_port": port,
            "notification_drain_timeout": 0,
            "notification_fallback_file": directory / "rest",
        }
    made = daemons.Site(directory, api=options)
    made.registry_options["verbose"] = False
    return made


def measure(
    args: argparse.Namespace, sites: dict[str, daemons.Site], image: pathlib.Path
) -> dict[str, list[float]]:
    """Return, site by site, what each turn's median upload comes to in a second.

    The sites take turns upload by upload, in an order that chance decides: whatever else the
    machine does hits them alike. What an upload or deletion leaves to be done behind its answer
    gets a pause, lest it slows the next site down.
    """
    names = list(sites)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(args.rounds + 1):
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(args.uploads):
            for name in random.sample(names, len(names)):
                time.sleep(_PAUSE)
                took, path = load.upload(sites[name].port, image)
                seconds[name].append(took)
                sites[name].http.delete(path)
        # The first turn is for warming up.
        if number:
            for name in names:
                rates[name].append(1 / statistics.median(seconds[name]))
    return rates


def one_message(args: argparse.Namespace, home: pathlib.Path, port: int) -> table.Row:
    """Compare telling a silent broker with writing the same message to a log file."""
    payload = {"id": 1, "name": "x" * 40, "properties": {"os": "linux", "arch": "x86_64"}}
    # The log is for what is measured against.
    logging.getLogger("glance").propagate = False
    logging.getLogger("glance").addHandler(logging.NullHandler())
    settings = {
        "notifier_strategy": "rabbit",
        "rabbit_port": str(port),
        "notification_buffer_size": str(args.rounds * 2000),
        "notification_drain_timeout": "0",
    }
    teller = notifier.Notifier(settings)
    teller.start()
    log = logging.getLogger("bench")
    log.propagate = False
    log.addHandler(logging.FileHandler(home / "log"))
    log.warning("begin")
    row = table.Row("one notification, broker silent", "/s", "one log line")

    def rate(tell: Callable[[], object]) -> float:
        begin = time.perf_counter()
        for _ in range(2000):
            tell()
        return 2000 / (time.perf_counter() - begin)

    table.turns(
        args.rounds,
        lambda: row.ours.append(rate(lambda: teller.info("image.update", payload))),
        lambda: row.theirs.append(rate(lambda: log.warning("%s", payload))),
    )
    teller.stop()
    return row


if __name__ == "__main__":
    sys.exit(main())
