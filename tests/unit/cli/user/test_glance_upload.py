"""glance-upload: what it sends, prints and returns."""

import json

import pytest

from glance import version
from glance.cli.user import glance_upload


@pytest.fixture
def run(api, tmp_path, monkeypatch, capsys):
    """Run the program on a small file: `run("--type=kernel")`."""
    for name in list(glance_upload.os.environ):
        if name.startswith("OS_"):
            monkeypatch.delenv(name)
    path = tmp_path / "disk.raw"
    path.write_bytes(b"data")

    def run(*options, file=path, name="web"):
        place = ["--host=127.0.0.1", f"--port={api.server.port}"]
        try:
            code = glance_upload.main([*place, *options, *([str(file), name] if file else [])])
        except SystemExit as err:
            code = err.code
        return code, *capsys.readouterr()

    return run


def sent(api):
    headers = api.server.requests[-1].headers
    return {
        k.removeprefix("x-image-meta-"): v
        for k, v in headers.items()
        if k.startswith("x-image-meta-")
    }


def test_file_becomes_a_public_image(run, api):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert sent(api) == {
        "name": "web",
        "is-public": "True",
        "size": "4",
        "property-type": "raw",
    }
    assert api.server.requests[0].body == b"data"


def test_whole_metadata_is_printed_a_key_a_line(run):
    lines = run()[1].splitlines()
    assert lines[0].startswith("Stored image. Got identifier: {'checksum': ")
    keys = [line.split("'")[1] for line in lines]
    assert keys == sorted(keys)
    assert {"id", "name", "status", "properties"} <= set(keys)


def test_options_become_attributes_and_properties(run, api):
    run(
        "--type=machine",
        "--disk-format=qcow2",
        "--container-format=ovf",
        "--kernel=3",
        "--ramdisk=4",
    )
    assert sent(api) | {"size": None} == {
        "name": "web",
        "is-public": "True",
        "size": None,
        "disk-format": "qcow2",
        "container-format": "ovf",
        "property-type": "machine",
        "property-kernel-id": "3",
        "property-ramdisk-id": "4",
    }


@pytest.mark.parametrize("option", ["--disk-format=doc", "--container-format=qcow2", "--port=x"])
def test_wrong_value_is_a_usage_error(run, api, option):
    code, out, err = run(option)
    assert (code, out) == (2, "")
    assert err.startswith("usage: glance-upload ")
    assert "glance-upload: error: argument --" in err
    assert not api.server.requests


def test_missing_arguments_are_a_usage_error(run):
    code, out, err = run(file=None)
    assert (code, out) == (2, "")
    assert "glance-upload: error: " in err


def test_refusal_is_told_and_fails(run, api):
    api.refuse["POST", "/images"] = (400, b"400 Bad Request\n\nUse another value.\n")
    assert run() == (1, "Failed to add new image. Got error: Use another value.\n", "")


def test_absent_server_is_told_and_fails(run, api):
    api.server.stop()
    code, out, err = run()
    assert (code, err) == (1, "")
    assert out.startswith("Failed to add new image. Got error: Unable to connect to server")
    assert out.count("\n") == 1


def test_unreadable_file_is_told_and_fails(run, api, tmp_path):
    code, out, err = run(file=tmp_path / "none")
    assert (code, err) == (1, "")
    assert out.startswith("Failed to add new image. Got error: [Errno 2] No such file")
    assert not api.server.requests


@pytest.mark.parametrize("option", ["-A", "--auth_token"])
def test_token_is_sent(run, api, option):
    run(option, "tok")
    assert api.server.requests[0].headers["x-auth-token"] == "tok"


def test_environment_signs_in(run, api, loopback, monkeypatch):
    url = f"http://127.0.0.1:{api.server.port}/v1"
    answer = {"auth": {"token": {"id": "tok"}, "serviceCatalog": {"glance": [{"publicURL": url}]}}}
    keystone = loopback.answering(lambda seen: (200, json.dumps(answer).encode()))
    for name, value in {
        "OS_AUTH_USER": "joe",
        "OS_AUTH_KEY": "s3cret",
        "OS_AUTH_URL": f"http://127.0.0.1:{keystone.port}/v2.0/",
        "OS_AUTH_STRATEGY": "keystone",
    }.items():
        monkeypatch.setenv(name, value)
    assert run()[0] == 0
    assert api.server.requests[0].headers["x-auth-token"] == "tok"


def test_version(run):
    assert run("--version") == (0, f"glance-upload {version.version_string()}\n", "")


def test_help_explains_every_option(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for option in glance_upload.OPTIONS for name in option.names)
    assert "Exit codes:" in out


@pytest.mark.parametrize("option", ["--port=0", "--port=65536", "--timeout=nan", "--timeout=-1"])
def test_numbers_that_no_connection_has_are_refused(option, capsys):
    with pytest.raises(SystemExit) as leaving:
        glance_upload.main([option, "file", "name"])
    assert leaving.value.code == 2
    assert "is not a number from" in capsys.readouterr().err
