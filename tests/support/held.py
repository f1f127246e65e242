"""An application of glance-converter that tells of its phases, and can be held at one of them.

A paste factory for the converters of tests, which find it in the checkout. Each phase that begins
is a line of the file `trace`. A conversion waits at the beginning of the phase `hold` as long as
the file `holding` exists. `look` is how long an inspection takes at least, in seconds, and with
`blind` it sees nothing.
"""

import os
import time

from glance import converter
from glance.conversion import inspection
from glance.converter import lease


def app_factory(global_conf, trace, hold="", holding="", look="0", blind="", **own):
    worker = converter.app_factory(global_conf, **own)
    began = lease.Lease.began

    def tell(self, phase):
        began(self, phase)
        with open(trace, "a") as file:
            file.write(f"{phase.value}\n")
        while phase.value == hold and os.path.exists(holding):
            self._stop.check()
            time.sleep(0.01)

    def inspect(fd, disk_format):
        time.sleep(float(look))
        return None if blind else inspection.inspect(fd, disk_format)

    lease.Lease.began = tell
    worker.converter.inspect = inspect
    return worker
