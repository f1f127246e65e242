"""With GLANCE_TEST_GREEN set, these tests run on eventlet's hub (see test_green.py)."""

import os

if os.environ.get("GLANCE_TEST_GREEN"):
    import eventlet

    eventlet.monkey_patch()
