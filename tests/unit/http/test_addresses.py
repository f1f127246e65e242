"""What an address that a daemon listens on means."""

import pytest

from glance.http import addresses


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "[::]", "192.0.2.1", "x", "", "127.1.x")),
    ],
)
def test_only_this_host_can_connect_to_loopback(host, expected):
    assert addresses.is_loopback(host) is expected
