"""Settings that cannot be right, in a daemon as an operator starts it: all are told at once."""

import re
import subprocess
import sys

import pytest

from support import daemons

API = {
    "rabbit_port": "x",
    "rabbit_use_ssl": "perhaps",
    "swift_store_large_object_size": "much",
    "s3_store_retries": "x",
    "image_cache_max_size_bytes": "x",
    "scrub_time": "soon",
    "public_endpoint": "here",
    "syslog_log_facility": "LOG_NOWHERE",
    "registry_host": "a b",
}
REGISTRY = {"sql_timeout": "x", "bind_port": "70000", "user_storage_quota": "x"}


def started(program, directory, **options):
    """Return the lines on standard error of a daemon that does not come up."""
    site = daemons.Site(directory, api=options, registry=options)
    site.write()
    done = subprocess.run(
        [sys.executable, str(daemons.BIN / program), str(directory / f"{program}.conf")],
        env=daemons.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("program", "wrong"), [("glance-api", API), ("glance-registry", REGISTRY)]
)
def test_each_is_told_by_its_name_in_the_file_whatever_is_in_use(tmp_path, program, wrong):
    told = started(program, tmp_path, notifier_strategy="noop", enabled_stores="file", **wrong)
    for name in wrong:
        start = f"ERROR: {tmp_path}/{program}.conf: option {name} has the invalid value "
        assert sum(line.startswith(start) for line in told) == 1, name
    assert len(told) == len(wrong), told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"default_store": "swift"}, "default_store swift does not accept images"),
        ({"known_stores": "pigeon"}, "store driver pigeon cannot be used"),
        ({"policy_class": "no.such"}, "policy_class"),
        ({"cert_file": "/dev/null"}, "Set both cert_file and key_file"),
        ({"auth_mode": "keystone"}, "auth_mode is keystone, but the pipeline"),
        ({"notifier_strategy": "pigeon"}, "option notifier_strategy: 'pigeon' is not"),
    ],
)
def test_other_errors_about_an_option_name_the_file(tmp_path, options, message):
    (line,) = started("glance-api", tmp_path, workers=0, **options)
    assert re.match(rf"ERROR: {tmp_path}/glance-api\.conf: .*{re.escape(message)}", line), line
