"""Whether tests that have a long form run in it; for each change they run in the short one."""

import os

import pytest

#: Set GLANCE_TEST_LONG for it; see contributing.rst.
LONG = bool(os.environ.get("GLANCE_TEST_LONG"))

#: What covers again, in another configuration, what shorter tests cover.
only = pytest.mark.skipif(not LONG, reason="GLANCE_TEST_LONG is not set")
