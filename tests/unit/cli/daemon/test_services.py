"""The daemons' command line, up to the point where they would serve."""

import argparse
import logging
import os
import re
import subprocess
import sys

import pytest

from glance import version
from glance.cli.daemon import services, startup
from glance.common import config
from glance.registry.db import migration

from support import daemons


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(services.paste, "SEARCH_PATH", (".",))
    return tmp_path


@pytest.mark.parametrize("main", [services.api_main, services.registry_main])
def test_version(main, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.split()[1] == version.version_string()


@pytest.mark.parametrize("arguments", [["--nonsense"], ["a", "b"], ["--config"]])
def test_a_wrong_command_line_exits_2(arguments):
    with pytest.raises(SystemExit) as caught:
        services.api_main(arguments)
    assert caught.value.code == 2


def test_no_configuration_file_gives_the_manuals_line(nowhere, capsys):
    assert services.api_main([]) == 1
    assert capsys.readouterr().err == (
        "ERROR: Unable to locate any configuration file. Cannot load application glance-api\n"
    )


def test_a_named_and_missing_file_is_named_on_a_second_line(nowhere, capsys):
    assert services.registry_main(["typo.conf"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("ERROR: Unable to locate any configuration file.")
    assert "typo.conf" in second


def test_the_command_line_wins_over_the_file():
    conf = config.Conf({"verbose": "False", "debug": "True", "log_file": "a", "log_dir": "/x"})
    args = argparse.Namespace(
        verbose=True, debug=False, use_syslog=False, log_file="b", log_dir=None
    )
    merged = startup.override(conf, args)
    assert (merged.verbose, merged.debug, merged.log_file, merged.log_dir) == (
        True, True, "b", "/x",
    )  # fmt: skip


# -- what a file may hold -------------------------------------------------------------------------

FILE = """
[DEFAULT]
bind_host = 127.0.0.1
{default}

[pipeline:{program}]
pipeline = {stages} app

[filter:context]
paste.filter_factory = glance.common.context:filter_factory
{context}

[app:app]
paste.app_factory = {factory}
{app}
{more}
"""
FACTORIES = {
    "glance-api": "glance.api.v1:app_factory",
    "glance-registry": "glance.registry.server:app_factory",
}


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a daemon up to the point where it would serve; returns its exit code."""
    served = []
    monkeypatch.setattr(services, "patch", lambda **kinds: None)
    monkeypatch.setattr("glance.http.server.serve", lambda *args: served.append(args) or 0)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def start(program, *arguments, mode=0o600, stages="context", **parts):
        path = tmp_path / f"{program}.conf"
        given = {"default": "", "context": "", "app": "", "more": "", **parts}
        text = FILE.format(program=program, factory=FACTORIES[program], stages=stages, **given)
        path.write_text(text)
        path.chmod(mode)
        main = services.api_main if program == "glance-api" else services.registry_main
        return main([str(path), f"--log-file={tmp_path}/log", *arguments])

    start.served = served
    start.log = tmp_path / "log"
    yield start
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.setLogRecordFactory(logging.LogRecord)


def test_all_problems_of_a_file_are_told_at_once(start, capsys):
    code = start(
        "glance-api",
        default="bind_port = abc\ndelayed_delete = maybe\nfilesystem_store_file_mode = rw\n"
        "cert_file = /dev/null",
        context="owner_is_tenant = perhaps",
        app="image_size_cap = -1",
    )
    assert code == 1
    problems = capsys.readouterr().err.splitlines()
    assert all(line.startswith("ERROR: ") for line in problems)
    for told in (
        "glance-api.conf: option bind_port has the invalid value 'abc'",
        "glance-api.conf: option delayed_delete has the invalid value 'maybe'",
        "glance-api.conf: option filesystem_store_file_mode",
        "glance-api.conf [filter:context]: option owner_is_tenant",
        "glance-api.conf [app:app]: option image_size_cap",
        "Set both cert_file and key_file, or neither",
    ):
        assert sum(told in line for line in problems) == 1, told
    assert len(problems) == 6
    assert not start.served


@pytest.mark.parametrize(
    ("default", "message"),
    [
        ("notifier_strategy = pigeon", "'pigeon' is not an available notifier strategy."),
        ("notifier_strategy = rabbit\nrabbit_port = many", "option rabbit_port"),
        ("notification_redact_properties = (", "use a regular expression"),
    ],
)
def test_notifications_that_cannot_work_stop_the_api(start, capsys, default, message):
    assert start("glance-api", default=default) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match("ERROR: /.*/glance-api.conf: option ", line)
    assert message in line
    assert not start.served


def test_names_without_a_value_do_not_stop_the_api(start, capsys):
    names = [name for name in config.TABLE if name not in ("auth_mode",)]
    assert start("glance-api", default="\n".join(f"{name} =" for name in names)) == 0
    assert "has the invalid value" not in capsys.readouterr().err
    assert start.served


def test_authorities_that_cannot_be_read_stop_the_api(start, capsys, tmp_path):
    where = tmp_path / "none.pem"
    default = f"registry_client_protocol = https\nregistry_client_ca_file = {where}"
    assert start("glance-api", default=default) == 1
    assert "registry_client_protocol: The TLS files cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("default", ["", "sql_connection =", "sql_connection = nonsense"])
def test_a_registry_without_a_database_does_not_start(start, capsys, default):
    assert start("glance-registry", default=f"{default}\nsql_idle_timeout = x") == 1
    problems = capsys.readouterr().err
    assert "option sql_connection" in problems
    assert "option sql_idle_timeout" in problems


def test_the_database_may_stand_in_the_section_of_the_application(start, tmp_path):
    url = f"sqlite:///{tmp_path}/x.sqlite"
    assert start("glance-registry", app=f"sql_connection = {url}") == 0
    assert start.served


def test_unknown_options_never_stop_a_daemon_and_slips_are_warned_of_once(start):
    code = start(
        "glance-api", default="bind_prot = 1\nfoo = 1", context="admin_roel = x\nforeign = 2"
    )
    assert code == 0
    text = start.log.read_text()
    assert text.count("option bind_prot is unknown; did you mean bind_port?") == 1
    misspelt = "glance-api.conf [filter:context]: option admin_roel is unknown"
    assert f"{misspelt}; did you mean admin_role?" in text
    assert "foreign" not in text


@pytest.mark.parametrize("mode, warned", [(0o644, True), (0o600, False)])
def test_a_file_with_secrets_that_everybody_may_read_is_warned_of(start, mode, warned):
    key = "canary-of-16-byt"
    default = f"sql_connection = sqlite:////nonexistent/x\nmetadata_encryption_key = {key}"
    start("glance-registry", mode=mode, default=default)
    text = start.log.read_text()
    assert ("contains secrets (metadata_encryption_key)" in text) == warned
    assert "canary" not in text


def test_no_secret_is_in_the_dump(start):
    start("glance-api", "--debug", default="swift_store_key = canary\nadmin_token = canary")
    text = start.log.read_text()
    assert "swift_store_key                ***" in text
    assert "canary" not in text


def test_the_chosen_file_and_what_both_daemons_must_agree_on_are_logged(start, tmp_path):
    start("glance-api", "--verbose")
    text = start.log.read_text()
    assert f"Using the configuration file {tmp_path}/glance-api.conf" in text
    assert "auth_mode is noauth, owner_is_tenant is True" in text


EXPOSED = {
    "noauth": "everybody who can reach it is an administrator",
    "keystone": "tenants who can reach it can send it their own requests",
    "trusted-headers": "trusts the identity headers of everybody",
}


@pytest.mark.parametrize("mode", EXPOSED)
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::1]", "127.0.0.1", "localhost"])
@pytest.mark.parametrize("secret", ["", "known"])
def test_a_registry_that_others_can_reach_without_the_secret_is_warned_of(
    start, tmp_path, host, mode, secret
):
    default = (
        f"sql_connection = sqlite:///{tmp_path}/x\nbind_host = {host}\n"
        f"registry_shared_secret = {secret}"
    )
    trusting = mode == "trusted-headers"
    token_filter = "[filter:token]\npaste.filter_factory = tests:token_filter"
    assert (
        start(
            "glance-registry",
            default=default + ("\nauth_mode = trusted-headers" if trusting else ""),
            **({"stages": "token context", "more": token_filter} if mode == "keystone" else {}),
        )
        == 0
    )
    within_reach = trusting or host in ("0.0.0.0", "::")
    found = [text for text in EXPOSED.values() if text in start.log.read_text()]
    assert found == ([EXPOSED[mode]] if within_reach and not secret else [])


@pytest.mark.parametrize("secret", ["", "known"])
def test_identity_headers_without_the_secret_are_warned_of(start, secret):
    default = f"send_identity_headers = True\nregistry_shared_secret = {secret}"
    assert start("glance-api", default=default) == 0
    assert ("trusts them from everybody" in start.log.read_text()) == (not secret)


#: Patches as a daemon does, and looks a name up while a greenthread goes on.
LOOKUP = """
import os, sys
from glance.cli.daemon import services
before = dict(os.environ)
services.patch()
assert dict(os.environ) == before
assert not {"dns", "eventlet.support.greendns", "sqlalchemy"} & set(sys.modules)
import eventlet, socket
from eventlet import green, patcher
from eventlet.green import socket as green_socket
native = patcher.original("threading")
seen = []
def real(*args, **kwargs):
    seen.append(native.get_ident())
    while len(seen) < 100:
        patcher.original("time").sleep(0.001)
    return socket_of_libc(*args, **kwargs)
socket_of_libc = socket.getaddrinfo.args[0]
import functools
from glance.streaming import threads
assert socket.getaddrinfo is green_socket.getaddrinfo
green_socket.getaddrinfo = functools.partial(threads.look_up, real)
def tick():
    while len(seen) < 100:
        seen.append(None)
        eventlet.sleep(0)
eventlet.spawn_after(0, tick)
listener = eventlet.listen(("127.0.0.1", 0))
green_socket.create_connection(("localhost", listener.getsockname()[1])).close()
assert native.get_ident() not in seen
print(*sorted({family[4][0] for family in socket.getaddrinfo("127.0.0.1", 80)}))
"""


@pytest.mark.parametrize("operators", [None, "no", "yes"])
def test_names_are_looked_up_by_the_system_beside_the_event_loop(operators):
    own = {} if operators is None else {"EVENTLET_NO_GREENDNS": operators}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOKUP],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **own},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "127.0.0.1\n", "")


#: Becomes a daemon up to the point where its worker would serve, and prints what is loaded.
LOADED = """
import sys
from glance.cli.daemon import services
services.patch(has_database=sys.argv[1] == "registry_main")
import glance.http.server
def serve(conf, make_app, name):
    make_app()
    print(*sys.modules)
    return 0
glance.http.server.serve = serve
sys.exit(getattr(services, sys.argv.pop(1))())
"""
#: What a daemon loads only when it is used.
UNUSED = {"boto", "dns", "keystoneauth1", "keystoneclient", "kombu", "migrate"}
UNUSED |= {"pkg_resources", "requests", "swiftclient", "urllib3"}


@pytest.mark.parametrize(
    ("main", "unused"),
    [
        ("api_main", {*UNUSED, "glance.registry.db", "psycopg2", "sqlalchemy"}),
        ("registry_main", {*UNUSED, "glance.api", "glance.store"}),
    ],
)
def test_a_daemon_loads_what_it_uses(tmp_path, main, unused):
    site = daemons.Site(tmp_path)
    site.write()
    migration.db_sync(site.registry_options["sql_connection"])
    conf = {"api_main": site.api, "registry_main": site.registry}[main].conf
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED, main, str(conf)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    loaded = unused.intersection(done.stdout.splitlines()[-1].split())
    assert not loaded
