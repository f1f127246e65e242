"""Names beyond ASCII where the locale is C, as under cron and in init scripts."""

import os
import subprocess
import sys

import pytest

from support import daemons

pytestmark = pytest.mark.full

LOCALES = {
    "C": {"LC_ALL": "C"},
    "POSIX": {"LANG": "POSIX"},
    "none": {},
    "strictly ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII streams": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
}


def environment(locale):
    kept = {
        name: value
        for name, value in daemons.environment().items()
        if not name.startswith(("LC_", "LANG", "PYTHONIOENCODING", "PYTHONUTF8"))
    }
    return {**kept, **LOCALES[locale]}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site in a directory with a name beyond ASCII, whose daemons run in the C locale."""
    patched = pytest.MonkeyPatch()
    environ = environment("C")
    patched.setattr(daemons, "environment", lambda: environ)
    directory = tmp_path_factory.mktemp("Zürich 日本")
    made = daemons.Site(directory, fresh=True, api={"log_file": directory / "löw.log"})
    try:
        with made:
            patched.undo()
            yield made
    finally:
        patched.undo()


@pytest.fixture(params=LOCALES)
def run(site, request):
    """Run a program in a locale: return its exit code, and what it printed, as text."""

    def run(program, *words, data=b""):
        done = subprocess.run(
            [sys.executable, str(daemons.BIN / program), *words],
            input=data,
            capture_output=True,
            env=environment(request.param),
        )
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


def test_names_go_there_and_back(site, run, tmp_path):
    place = f"--port={site.port}"
    words = ("name=Zürich 日本", "färbe=grün", "is_public=true")
    code, out, err = run("glance", "add", *words, place, data=b"data")
    assert (code, err) == (0, "")
    image_id = out.split()[-1]
    for command in ("show", "details"):
        code, out, err = run(
            "glance", command, image_id if command == "show" else "--force", place
        )
        assert (code, err) == (0, "")
        assert "Name: Zürich 日本\n" in out and "Property 'färbe': grün\n" in out
    code, out, _ = run("glance", "index", "name=Zürich 日本", "--limit=100", "--force", place)
    assert (code, out.splitlines()[2].split()[:3]) == (0, [image_id, "Zürich", "日本"])
    assert "Zürich 日本" in run("glance", "show", image_id, "--format=json", place)[1]
    assert run("glance", "member-add", image_id, "Jürgen", place)[0] == 0
    assert run("glance", "image-members", image_id, place)[1] == "Jürgen\n"
    target = tmp_path / "köpie"
    assert run("glance", "download", image_id, f"--file={target}", place)[0] == 0
    assert target.read_bytes() == b"data"
    (tmp_path / "ö.img").write_bytes(b"data")
    code, out, _ = run("glance-upload", str(tmp_path / "ö.img"), "Näme", place)
    assert code == 0 and "Näme" in out


def test_bytes_that_are_no_text_are_told_in_a_line(site, run):
    code, out, err = run("glance", "add", b"name=\xff", f"--port={site.port}", data=b"data")
    assert (code, out) == (1, "")
    assert err == "glance: This argument is not UTF-8 text: name=?\n"


@pytest.mark.parametrize(
    ("program", "words", "wanted"),
    [
        ("glance", ("nönsense",), 1),
        ("glance", ("--höst=x",), 2),
        ("glance-manage", ("--config-file=nö.conf", "db_version"), 1),
        ("glance-control", ("äpi", "start"), 1),
        ("glance-control", ("api", "start", "nö.conf"), 1),
        ("glance-cache-manage", ("lïst",), 2),
        ("glance-cache-pruner", ("nö",), 2),
        ("glance-scrubber", ("nö",), 2),
        ("glance-api", ("nö",), 1),
    ],
)
def test_errors_about_names_are_no_tracebacks(run, program, words, wanted):
    code, _, err = run(program, *words)
    assert (code, bool(err.strip())) == (wanted, True)


def test_the_log_of_a_daemon_in_the_c_locale_holds_names(site):
    assert (site.directory / "löw.log").stat().st_size > 0


@pytest.mark.parametrize("locale", LOCALES)
def test_a_failure_at_start_in_a_directory_with_any_name_is_a_line(tmp_path, locale):
    directory = os.path.join(os.fsencode(tmp_path), b"\xff\xc3\xa9")
    os.mkdir(directory)
    conf = os.path.join(directory, b"glance-registry.conf")
    with open(conf, "w") as file:
        file.write(
            "[DEFAULT]\nbind_host = 127.0.0.1\nbind_port = 0\n"
            f"sql_connection = sqlite:///{tmp_path}/x\n"
            "[app:glance-registry]\npaste.app_factory = nowhere:app\n"
        )
    done = subprocess.run(
        [sys.executable, str(daemons.BIN / "glance-registry"), b"--config-file=" + conf],
        capture_output=True,
        env=environment(locale),
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"ERROR: Unable to load glance-registry" in done.stderr
