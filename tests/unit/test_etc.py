"""The files for service managers: true to the programs, and accepted by what reads them."""

import configparser
import pathlib
import re
import subprocess
import sys

import pytest

from glance import scrubber
from glance.converter import worker
from glance.notifier import publisher

from support import checkout, images, pages

RUNS = {
    "running-as-a-service": {
        "Check the health of the daemons": "test_haproxy_takes_the_check_of_the_page"
    }
}
ROOT = pathlib.Path(__file__).resolve().parents[2]
ETC = ROOT / "etc"
UNITS = sorted((ETC / "systemd").glob("*.service"))


def parsed(path):
    parser = configparser.RawConfigParser()
    parser.optionxform = str
    parser.read(path)
    return parser


def default(name):
    page = pages.text("options")
    entry = page.partition(f"\n.. confval:: {name}\n")[2]
    return re.match(r"    :type: .*\n    :default: ``([^`]*)``\n", entry)[1]


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_start_the_program_with_its_file(unit):
    service = parsed(unit)["Service"]
    program, *_, conf = service["ExecStart"].split()
    assert (ROOT / "bin" / pathlib.Path(program).name).exists()
    assert pathlib.Path(program).name == unit.stem
    assert (ETC / pathlib.Path(conf).name).exists()
    # The scrubber serves nobody who could be too early; the cache programs make one pass.
    kind = "oneshot" if "cache" in unit.stem else "notify"
    assert service["Type"] == ("exec" if unit.stem == "glance-scrubber" else kind)


def test_what_makes_one_pass_has_a_timer():
    timers = {path.stem for path in (ETC / "systemd").glob("*.timer")}
    assert timers == {unit.stem for unit in UNITS if parsed(unit)["Service"]["Type"] == "oneshot"}
    assert timers == {f"glance-cache-{name}" for name in ("prefetcher", "pruner", "cleaner")}


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_wait_longer_for_the_end_than_the_daemon_does_for_its_requests(unit):
    # The parent takes four seconds more than its workers get.
    needed = float(default("stop_timeout")) + 4
    if unit.stem == "glance-scrubber":
        needed = scrubber.STOP_SECONDS
    if unit.stem == "glance-converter":
        needed = float(default("conversion_shutdown_grace")) + worker.FAREWELL
    if unit.stem in ("glance-api", "glance-scrubber", "glance-converter"):
        needed += float(default("notification_drain_timeout")) + publisher.FAREWELL
    assert float(parsed(unit)["Service"]["TimeoutStopSec"]) > needed


@pytest.mark.peers
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_the_units(unit, tmp_path):
    images.need("systemd-analyze")
    for other in [*UNITS, *(ETC / "systemd").glob("*.timer")]:
        # Only what is installed can be verified: the checkout stands in for /opt/glance.
        text = other.read_text("utf-8").replace("/opt/glance/bin", str(ROOT / "bin"))
        (tmp_path / other.name).write_text(text)
    units = [str(tmp_path / unit.name), *map(str, tmp_path.glob(f"{unit.stem}.timer"))]
    command = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if unit.stem in line]
    assert not said, done.stderr


@pytest.mark.peers
def test_systemd_makes_the_directories(tmp_path):
    images.need("systemd-tmpfiles")
    text = (ETC / "tmpfiles.d" / "glance.conf").read_text("utf-8")
    conf = tmp_path / "glance.conf"
    conf.write_text(re.sub(r"(?:glance|root  ) glance", "- -", text))
    root = tmp_path / "root"
    root.mkdir()
    (root / "etc" / "glance").mkdir(parents=True)
    (root / "etc" / "glance" / "glance-api.conf").write_text("")
    command = ["systemd-tmpfiles", "--create", f"--root={root}", str(conf)]
    subprocess.run(command, check=True, capture_output=True)
    assert (root / "etc" / "glance").stat().st_mode & 0o777 == 0o750
    assert (root / "etc" / "glance" / "glance-api.conf").stat().st_mode & 0o777 == 0o640
    for directory in ("run/glance", "var/lib/glance/images", "var/log/glance"):
        assert (root / directory).stat().st_mode & 0o777 == 0o750


@pytest.mark.peers
def test_systemd_makes_the_user(tmp_path):
    images.need("systemd-sysusers")
    (tmp_path / "etc").mkdir()
    conf = ETC / "sysusers.d" / "glance.conf"
    command = ["systemd-sysusers", f"--root={tmp_path}", str(conf)]
    subprocess.run(command, check=True, capture_output=True)
    (line,) = (tmp_path / "etc" / "passwd").read_text("utf-8").splitlines()
    name, _, _, _, _, home, shell = line.split(":")
    assert (name, home) == ("glance", "/var/lib/glance") and shell.endswith("/nologin")


def test_logs_of_the_samples_are_rotated():
    text = (ETC / "logrotate.d" / "glance").read_text("utf-8")
    pattern = re.search(r"^(/\S+) \{$", text, re.MULTILINE)[1]
    for name in ETC.glob("*.conf"):
        log_file = parsed(name)["DEFAULT"]["log_file"]
        assert pathlib.PurePath(log_file).match(pattern)


SAMPLE = """
import logging, sys
from glance.common import config, log
log.setup(config.Conf({"log_config": sys.argv[1]}), "glance-api")
logging.getLogger("glance-api").info("from the daemon")
logging.getLogger("glance.store").info("too little to be told")
logging.getLogger("glance.store").warning("from a module")
"""


def test_the_sample_of_a_logging_configuration_is_taken(tmp_path):
    sample = str(ETC / "logging.cnf.sample")
    done = subprocess.run(
        [sys.executable, "-c", SAMPLE, sample],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    (own, module) = done.stdout.splitlines()
    assert own.startswith("(glance-api): ") and own.endswith(" from the daemon")
    assert module.startswith("(glance.store): ") and module.endswith(" from a module")
    assert not done.stderr


@pytest.mark.peers
def test_haproxy_takes_the_check_of_the_page(tmp_path):
    images.need("haproxy")
    (block,) = checkout.blocks(
        pages.path("running-as-a-service"), "Check the health of the daemons"
    )
    front = "frontend images\n    bind 127.0.0.1:1\n    default_backend glance-api\n"
    limits = "defaults\n    mode http\n    timeout connect 2s\n"
    limits += "    timeout client 15m\n    timeout server 15m\n"
    conf = tmp_path / "haproxy.cfg"
    conf.write_text(f"{limits}{front}{block}\n")
    done = subprocess.run(["haproxy", "-c", "-f", str(conf)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


@pytest.mark.peers
def test_logrotate_takes_its_file(tmp_path):
    images.need("logrotate")
    conf = tmp_path / "glance"
    text = (ETC / "logrotate.d" / "glance").read_text("utf-8")
    conf.write_text(re.sub(r"^ *(su|create) .*\n", "", text, flags=re.MULTILINE))
    conf.chmod(0o644)
    command = ["logrotate", "--debug", "--state", str(tmp_path / "state"), str(conf)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "error" not in done.stderr


def test_the_packing_list_takes_all_of_it():
    assert "graft etc" in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()
