"""Whether tests that have a long form run in it; for each change they run in the short one."""

import os

#: Set GLANCE_TEST_LONG for it; see contributing.rst.
LONG = bool(os.environ.get("GLANCE_TEST_LONG"))
