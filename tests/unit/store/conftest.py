"""With GLANCE_TEST_GREEN set, these tests run on eventlet's hub (see test_green.py)."""

import os

import pytest

if os.environ.get("GLANCE_TEST_GREEN"):
    import eventlet

    eventlet.monkey_patch()


from support.swift_node import SwiftNode


@pytest.fixture(scope="session")
def running_swift(tmp_path_factory):
    with SwiftNode(tmp_path_factory.mktemp("swift")) as node:
        yield node


@pytest.fixture
def swift_node(running_swift):
    """A real Swift with nothing in it."""
    yield running_swift
    running_swift.clear()
