"""What the data of an upload is: recorded, refused or ignored, whichever way it comes in."""

import io
import logging
import threading
import wsgiref.simple_server

import pytest
import webob

from glance.api import inspection
from glance.common import config, exception
from glance.inspect import signatures
from glance.streaming import tasks

from support import disks

URL = "/v1/images"
BACKING = disks.HOSTILE["qcow2_backing_file"]
#: (declared disk format, data, what is found)
CASES = [
    ("qcow2", disks.qcow2(), None),
    ("raw", b"data", None),
    ("raw", b"", None),
    ("raw", bytes(3 << 20), None),
    ("ami", b"data", None),
    (None, disks.qcow2(), None),
    ("raw", disks.qcow2(), "format_mismatch"),
    ("ami", disks.qcow2(), "format_mismatch"),
    ("qcow2", b"data", "format_mismatch"),
    ("raw", disks.iso(), "format_mismatch"),
    ("qcow2", BACKING, "unsafe_image"),
    (None, BACKING, "unsafe_image"),
    ("qcow2", disks.AMBIGUOUS["iso and qcow2"], "ambiguous_format"),
    ("vmdk", disks.HOSTILE["vmdk_text_descriptor"], "unsafe_image"),
    # What is wrong shows at the end, behind the first MiB.
    ("raw", bytes(3 << 20) + disks.vhd_footer(), "format_mismatch"),
    ("vhd", bytes(3 << 20) + disks.vhd_footer(checksum=1), "unsafe_image"),
]
IDS = [f"{n}-{declared}-{code}" for n, (declared, _, code) in enumerate(CASES)]
WAYS = ("post", "put", "copy", "copy into")
# Without data a POST or PUT changes the record only.
EACH = pytest.mark.parametrize(
    ("way", "declared", "data", "code"),
    [
        pytest.param(way, *case, id=f"{way}-{name}")
        for way in WAYS
        for case, name in zip(CASES, IDS, strict=True)
        if case[1] or way.startswith("copy")
    ],
)


@pytest.fixture
def origin(monkeypatch):
    """A web server with one image, whose data the list holds; copies run at once."""
    held = []

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", str(len(held[0])))])
        return [held[0]] if environ["REQUEST_METHOD"] == "GET" else []

    def at_once(function, *args):
        function(*args)
        return tasks.Task(lambda seconds: True)

    monkeypatch.setattr(tasks, "spawn", at_once)
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app)
    server.RequestHandlerClass.log_message = lambda *args: None
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    held.append(b"")
    held.append(f"http://127.0.0.1:{server.server_port}/image")
    yield held
    server.shutdown()
    server.server_close()


def described(declared, **further):
    """Return the headers of an image of a disk format."""
    fields = {"disk-format": declared, **further} if declared else further
    if declared == "ami":
        fields["container-format"] = "ami"
    return {f"x-image-meta-{name}": value for name, value in fields.items()}


def fill(api, origin, way, declared, data, **further):
    """Make image 5 with the data in one of the ways; return the response to the last request."""
    headers = described(declared, **further)
    source = {"x-glance-api-copy-from": origin[1]} if way.startswith("copy") else {}
    origin[0] = data
    body = None if source else data
    if way in ("post", "copy"):
        return api("POST", URL, {"x-image-meta-id": "5", **headers, **source}, body)
    # The format may be declared before the data or with it.
    before = headers if way == "put" else {}
    api.add(headers={"x-image-meta-id": "5", **before})
    return api("PUT", f"{URL}/5", {**source, **({} if before else headers)}, body)


def image_of(api):
    head = api("HEAD", f"{URL}/5")
    return head.headers["x-image-meta-status"], head.headers.get(
        "x-image-meta-property-inspection_result"
    )


@EACH
def test_by_default_what_is_wrong_is_recorded(api, origin, way, declared, data, code):
    response = fill(api, origin, way, declared, data)
    assert response.status_int in (200, 201)
    # What can do no harm is what it was in 2011: whatever its owner says.
    recorded = None if data in (b"data", disks.iso()) else code
    assert image_of(api) == ("active", recorded)
    assert api("GET", f"{URL}/5").body == data


@EACH
def test_what_is_wrong_can_be_refused(make_api, origin, caplog, way, declared, data, code):
    api = make_api(inspect_on_upload="enforce")
    with caplog.at_level(logging.INFO):
        response = fill(api, origin, way, declared, data)
    if code is None:
        assert response.status_int in (200, 201)
        assert image_of(api) == ("active", None)
        return
    assert image_of(api) == ("killed", None)
    assert api.files() == []
    (told,) = (r for r in caplog.records if "was inspected" in r.message)
    assert (told.levelname, code in told.message) == ("WARNING", True)
    if way.startswith("copy"):
        assert response.status_int in (200, 201)
        return
    assert response.status_int == 400
    assert f"The image was refused: {code}: " in response.text
    if code == "format_mismatch":
        assert f", {declared} was declared; declare the format that it has" in response.text
    # The rule is for the operator.
    assert "qcow2_" not in response.text and "vmdk_" not in response.text


@pytest.mark.parametrize("way", WAYS)
def test_it_can_be_off(make_api, origin, monkeypatch, way):
    def never(self, data):
        raise AssertionError("the data was looked at")

    monkeypatch.setattr(inspection.inspector.Inspector, "update", never)
    api = make_api(inspect_on_upload="off")
    assert fill(api, origin, way, "raw", BACKING).status_int in (200, 201)
    assert image_of(api) == ("active", None)


@pytest.mark.parametrize("mode", ["WARN", "no", "1"])
def test_other_modes_are_refused_at_start(mode):
    with pytest.raises(exception.ConfigError, match="inspect_on_upload .* off, warn, enforce"):
        config.Conf({"inspect_on_upload": mode}).check()


@pytest.mark.parametrize("mode", ["warn", "enforce"])
def test_a_package_is_in_no_disk_format(make_api, origin, mode):
    api = make_api(inspect_on_upload=mode)
    package = b"disk.ovf".ljust(257, b"\0") + b"ustar" + bytes(1000)
    fill(api, origin, "post", "vmdk", package, **{"container-format": "ovf"})
    assert image_of(api) == ("active", None)


def test_a_package_may_not_be_an_unsafe_image_either(api, origin):
    fill(api, origin, "post", "qcow2", BACKING, **{"container-format": "ovf"})
    assert image_of(api) == ("active", "unsafe_image")


def test_other_properties_stay(api):
    headers = described("raw", **{"property-os": "linux", "id": "5"})
    image = api("POST", URL, headers, BACKING).json["image"]
    assert image["properties"] == {"os": "linux", "inspection_result": "format_mismatch"}
    # A caller may take it away, as any property, and the data stays as it is.
    image = api("PUT", f"{URL}/5", described(None, **{"property-os": "linux"})).json["image"]
    assert image["properties"] == {"os": "linux"}


def test_a_caller_that_says_otherwise_is_overruled(api):
    headers = described("raw", **{"property-inspection-result": "safe", "id": "5"})
    image = api("POST", URL, headers, BACKING).json["image"]
    assert image["properties"] == {"inspection_result": "format_mismatch"}


class TestQuota:
    @pytest.fixture
    def registry(self, tmp_path, template):
        from tests.unit.api.conftest import Registry

        server = Registry(tmp_path, template, image_property_quota="1")
        yield server
        server.stop()

    def test_no_upload_fails_because_a_property_has_no_room(self, api):
        headers = described("raw", **{"property-os": "linux"})
        image = api("POST", URL, headers, BACKING).json["image"]
        assert (image["status"], image["properties"]) == ("active", {"os": "linux"})


def test_a_wrong_checksum_is_reported_first(make_api):
    api = make_api(inspect_on_upload="enforce")
    response = api("POST", URL, described("raw", checksum="0" * 32), BACKING)
    assert (response.status_int, "MD5" in response.text) == (400, True)


def test_data_that_comes_in_drops_is_judged_alike(api):
    class Drops(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 97))

    request = webob.Request.blank(URL, method="POST", headers=described("qcow2", id="5"))
    request.headers["Content-Type"] = "application/octet-stream"
    request.environ["wsgi.input"] = Drops(BACKING)
    request.content_length = len(BACKING)
    assert request.get_response(api.app).status_int == 201
    assert image_of(api) == ("active", "unsafe_image")


def test_pieces_go_by_without_a_copy():
    pieces = [bytes(signatures.HEAD_BYTES), b"last", b""]
    given = iter(pieces)

    class Source:
        def read(self, size):
            return next(given)

    seen = inspection.Inspected(Source(), "raw", inspection.WARN)
    assert all(seen.read(1 << 20) is piece for piece in pieces)
    assert seen.judge(5) == {}
