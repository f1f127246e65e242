"""Each block of options on a page starts a daemon, with the sample that the block belongs to."""

import concurrent.futures
import configparser
import os
import pathlib
import pwd
import re

import pytest

from support import blocks, certificates, daemons, pages

# Some of the options need the drivers of databases.
pytestmark = pytest.mark.full

RUNS = {
    "backup": {"[options]": "test_each_configuration_starts_a_daemon"},
    "conversion": {"[options]": "test_each_configuration_starts_a_daemon"},
    "deleting-images": {"[options]": "test_each_configuration_starts_a_daemon"},
    "http-caching": {"[options]": "test_each_configuration_starts_a_daemon"},
    "image-cache": {"[options]": "test_each_configuration_starts_a_daemon"},
    "images-api-v2": {"[options]": "test_each_configuration_starts_a_daemon"},
    "installing": {"[options]": "test_each_configuration_starts_a_daemon"},
    "keystone": {"[options]": "test_each_configuration_starts_a_daemon"},
    "monitoring": {"[options]": "test_each_configuration_starts_a_daemon"},
    "notification-consumer": {"[options]": "test_each_configuration_starts_a_daemon"},
    "notifications": {"[options]": "test_each_configuration_starts_a_daemon"},
    "running-as-a-service": {"[options]": "test_each_configuration_starts_a_daemon"},
    "s3": {"[options]": "test_each_configuration_starts_a_daemon"},
    "swift": {"[options]": "test_each_configuration_starts_a_daemon"},
}

#: Daemons that are up at a time.
AT_ONCE = 4


def is_ours(text):
    """Whether a block has options; but no registry starts without its database.

    `test_databases_page` has one for those blocks.
    """
    return blocks.has_options(text) and "sql_connection" not in text


def found():
    """Return each block of options in the book, by its page and line."""
    named = {block.page for block in blocks.every() if is_ours(block.text)}
    return {
        f"{page}:{block.line}": text
        for page in sorted(named)
        for block, text in zip(
            (each for each in blocks.of(pages.path(page)) if is_ours(each.text)),
            blocks.read(pages.path(page), where=is_ours),
            strict=True,
        )
    }


def parser():
    made = configparser.RawConfigParser()
    made.optionxform = str
    return made


def written(text, directory, authority):
    """Write the file of a daemon with the options of a block; return the daemon."""
    given = parser()
    given.read_string(text if text.startswith("[") else f"[DEFAULT]\n{text}")
    program = "glance-registry" if "9193" in text else "glance-api"
    conf = parser()
    conf.read(daemons.ROOT / "etc" / f"{program}.conf", encoding="utf-8")
    for section in ("DEFAULT", *given.sections()):
        if not conf.has_section(section) and section != "DEFAULT":
            conf.add_section(section)
        own = given.defaults() if section == "DEFAULT" else given._sections[section]
        for name, value in own.items():
            conf.set(section, name, value)
    port = daemons.free_port()
    values = conf.defaults()
    values |= {"bind_host": "127.0.0.1", "bind_port": str(port), "workers": "0"}
    values["log_file"] = str(directory / "log")
    if "metrics_port" in values:
        values["metrics_port"] = str(daemons.free_port())
    if "user" in values:
        values["user"] = pwd.getpwuid(os.getuid()).pw_name
    if values.get("metadata_encryption_key") == "base64:...":
        values["metadata_encryption_key"] = "base64:" + "A" * 43 + "="
    # As a reader replaces it in the sample.
    if "authtoken" in conf[f"pipeline:{program}"]["pipeline"]:
        conf.set("filter:authtoken", "password", "secret")
    # As a page says before its block.
    for name in values.keys() & {"swift_store_spool_dir", "s3_store_object_buffer_dir"}:
        pathlib.Path(values[name].replace("/var/lib/glance", str(directory))).mkdir()
    path = directory / f"{program}.conf"
    with path.open("w", encoding="utf-8") as file:
        conf.write(file)
    text = path.read_text(encoding="utf-8").replace("/var/lib/glance", str(directory))
    text = re.sub(r"/etc/glance/(?:db-)?ca\.pem", str(authority), text)
    path.write_text(text, encoding="utf-8")
    return daemons.Daemon(program, path, directory / "output", port)


def trial(number, text, top):
    """Start a daemon with a block, and stop it; return what is wrong."""
    directory = top / str(number)
    directory.mkdir()
    daemon = written(text, directory, top / "ca.pem")
    try:
        daemon.start()
        alive = daemon.http.get("/healthcheck")
        if alive.status != 200:
            return f"{alive.status}: {alive.text}"
        status = daemon.stop()
        log = (directory / "log").read_text(encoding="utf-8")
    except AssertionError as problem:
        return str(problem)
    finally:
        daemon.kill()
    wrong = [line for line in log.splitlines() if "unknown" in line or "Traceback" in line]
    return wrong or (status and f"exit status {status}") or None


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """What is wrong with each block, by its page and line."""
    top = tmp_path_factory.mktemp("blocks")
    authority = certificates.Authority(top / "authority")
    (top / "ca.pem").write_bytes(authority.root.read_bytes())
    texts = found()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = pool.map(lambda at: trial(*at, top), enumerate(texts.values()))
        return dict(zip(texts, outcomes, strict=True))


def test_each_configuration_starts_a_daemon(problems):
    assert {place.partition(":")[0] for place in problems} == set(RUNS)
    assert not {place: problem for place, problem in problems.items() if problem}
    print(f"{len(problems)} configuration blocks start a daemon")


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("bind_prot = 9292", "unknown"),
        ("[pipeline:glance-api]\npipeline = nothing apiv1app", "nothing"),
    ],
)
def test_a_block_that_is_wrong_is_found(block, problem, tmp_path):
    assert problem in str(trial(0, block, tmp_path))
