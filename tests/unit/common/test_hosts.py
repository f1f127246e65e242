"""Addresses as people write them."""

import socket

import pytest

from glance import client
from glance.cli.daemon import servers
from glance.common import config, exception, hosts
from glance.http.server import options  # noqa: F401  declares bind_host
from glance.notifier import rabbit_options  # noqa: F401  declares rabbit_host
from glance.registry import link
from glance.store import host_rules


@pytest.mark.parametrize(
    ("text", "host"),
    [("[::1]", "::1"), ("::1", "::1"), (" h ", "h"), ("127.0.0.1", "127.0.0.1"), ("[", "[")],
)
def test_brackets_are_for_urls_only(text, host):
    assert hosts.bare(text) == host


@pytest.mark.parametrize("name", ["bind_host", "registry_host", "rabbit_host"])
@pytest.mark.parametrize("text", ["[::1]", "::1"])
def test_each_option_takes_both_forms(name, text):
    assert config.Conf({name: text})[name] == "::1"


@pytest.mark.parametrize("text", ["[::]", "::", "0.0.0.0"])
def test_the_registry_on_every_address_is_on_this_host(text):
    found = link.RegistryLink({"registry_host": text}).host
    assert found == ("127.0.0.1" if "." in text else "::1")


@pytest.mark.parametrize("text", ["[::1]", "::1"])
def test_glance_control_looks_at_the_right_address(text):
    conf = config.Conf({"bind_host": text, "bind_port": "9292"})
    assert servers._address(conf, servers.SERVERS["api"]) == ("::1", 9292)


@pytest.mark.parametrize(
    ("text", "brokers"),
    [
        ("::1", (("::1", 5672),)),
        ("[::1]", (("::1", 5672),)),
        ("[::1]:1, h:2 h", (("::1", 1), ("h", 2), ("h", 5672))),
    ],
)
def test_brokers(text, brokers):
    assert config.Conf({"rabbit_hosts": text}).rabbit_hosts == brokers


@pytest.mark.parametrize("text", ["[::1", "[::1]x", "h:x", ":1", "1::2::3"])
def test_what_is_no_broker_is_an_error(text):
    with pytest.raises(exception.ConfigError):
        config.Conf({"rabbit_hosts": text}).check()


@pytest.mark.parametrize("listed", ["[::1]", "::1", "[::1]:8080"])
@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_the_list_of_allowed_hosts(listed, host):
    rules = host_rules.HostRules(frozenset({listed}))
    assert rules.addresses(host, 8080) == [("::1", 8080)]


@pytest.fixture
def port6():
    """Return a port of the IPv6 loopback address where nobody listens."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            return probe.getsockname()[1]
    except OSError:
        pytest.skip("this host has no IPv6")


@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_a_client_takes_both_forms_and_names_the_address_in_errors(port6, host):
    made = client.Client(host, port6)
    with pytest.raises(exception.ClientConnectionError) as caught:
        made.get_images()
    assert f"Got error: [::1]:{made.port}: " in str(caught.value)
    assert made.host == "::1"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "[::]", "192.0.2.1", "x", "", "127.1.x")),
    ],
)
def test_only_this_host_can_connect_to_loopback(host, expected):
    assert hosts.is_loopback(host) is expected
