"""A conversion in a greenthread, in a process whose sockets, threads and files are patched."""

import subprocess
import sys

import pytest

from support import daemons, images

pytestmark = pytest.mark.full

SCRIPT = """
import eventlet
eventlet.monkey_patch()
import pathlib, signal, sys
from glance.conversion import engine, errors, process
from support import conversions

shop = conversions.Workshop(pathlib.Path(sys.argv[1]))
ticks = []

class Seeing(engine.Observer):
    def began(self, phase):
        seen[phase] = len(ticks)

seen = {}

def tick():
    while True:
        ticks.append(1)
        eventlet.sleep(0)

eventlet.spawn(tick)
source = shop.put(conversions.noise(40 << 20))
shop.convert(source, "raw", "qcow2", compress=True, observer=Seeing())
counts = dict(zip(seen, [*list(seen.values())[1:], len(ticks)]))
# Others have had their turns in every phase that takes its time.
for phase, count in counts.items():
    assert phase is engine.Phase.INSPECTING or count > seen[phase], phase

# A kill, or a time-out of the caller, ends the tool and removes everything.
for phase in engine.Phase:
    class Stopping(engine.Observer):
        def began(self, now):
            if now is phase:
                eventlet.spawn(job.kill)

    stored = len(shop.stored)
    job = eventlet.spawn(
        shop.convert, source, "raw", "qcow2", compress=True, observer=Stopping()
    )
    try:
        job.wait()
    except eventlet.greenlet.GreenletExit:
        pass
    assert len(shop.stored) == stored, phase
    assert shop.left() == [], (phase, shop.left())
    assert conversions.working_in(shop.work) == set()

# So have they while what was killed takes its time to end; who waits for it does not leave early.
class Slow(process.Run):
    mark = None

    def _signal(self, signum):
        if signum == signal.SIGKILL:
            self.mark = len(ticks)
        super()._signal(signum)

    def _is_over(self):
        return self.mark is not None and len(ticks) > self.mark + 100 and super()._is_over()

def wait(run):
    with run:
        eventlet.sleep(60)

process.GRACE = 0
run = Slow(["/bin/sleep", "60"], {})
job = eventlet.spawn(wait, run)
while not run.pid:
    eventlet.sleep(0)
job.kill()
while run.mark is None:
    eventlet.sleep(0)
job.kill()
while not job.dead:
    eventlet.sleep(0)
assert len(ticks) > run.mark + 100
assert run._status is not None
print("done")
"""


def test_a_conversion_in_a_greenthread(tmp_path):
    images.need("qemu-img", "bwrap")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**daemons.environment(), "PYTHONPATH": str(daemons.ROOT / "tests")},
        timeout=120,
    )
    assert done.stdout == "done\n", done.stdout + done.stderr
