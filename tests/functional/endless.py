"""A test that starts all kinds of processes and never ends; `test_interrupted.py` runs it."""

import json
import os
import pathlib
import threading

from support import daemons, leftovers, operators
from support.swift_node import SwiftNode


def test_it_is_interrupted(make_site, tmp_path):
    forked, controlled = make_site(workers=2), make_site(start=False)
    controlled.registry.start()
    operator = operators.Operator(controlled, tmp_path)
    operator.api("start", controlled.api.conf)
    node = SwiftNode(tmp_path / "swift").start()
    pids = [operator.pid("api"), node.pid]
    for daemon in (forked.api, forked.registry, controlled.registry):
        pids += daemon.pids()
    mark = os.environ[leftovers.MARK].rpartition("/")[2]
    told = {"mark": mark, "tests": os.getpid(), "pids": pids}
    assert all(daemons.is_running(pid) for pid in pids)
    file = pathlib.Path(os.environ["GLANCE_TEST_TOLD"])
    file.with_suffix(".part").write_text(json.dumps(told))
    file.with_suffix(".part").rename(file)
    threading.Event().wait()
