"""The five phases with a tool that copies: what each failure of the others means."""

import os

import pytest

from glance.common import exception
from glance.conversion import engine, errors, formats, qemu, sandbox
from glance.conversion.errors import Code, ConversionError
from glance.store import base
from glance.streaming import body

from support import conversions
from support.conversions import Workshop

#: A tool that knows raw images only, and no more than is asked of it here.
TOOL = """#!/bin/sh
case "$1" in
--version) echo "qemu-img version {version} (a test)";;
info)
    case "$3" in *target*) name=target;; *) name=source;; esac
    size=$(stat -c %s $name)
    printf '{{"format": "raw", "filename": "%s", "virtual-size": %s}}' $name $size;;
convert)
    {convert}
    ;;
compare) cmp source target;;
esac
"""
COPY = r"cat source > target; printf '    (50.00/100%%)\r    (100.00/100%%)\r\n'"


def tool(directory, convert=COPY, version="8.1.2"):
    path = directory / "qemu-img"
    path.write_text(TOOL.format(convert=convert, version=version))
    path.chmod(0o755)
    return path


@pytest.fixture
def make(tmp_path):
    """Return a function that makes a converter without a sandbox and with a tool that copies."""
    made = []

    def make_shop(convert=COPY, inspect=conversions.uninspected, **options):
        shop = Workshop(
            tmp_path,
            inspect,
            conversion_sandbox="none",
            conversion_qemu_img=tool(tmp_path, convert),
            **options,
        )
        made.append(shop)
        return shop

    yield make_shop
    assert made[-1].left() == []


def test_an_image_goes_through(make):
    shop = make(conversion_compare=True)
    data = conversions.noise(3_000_000)
    result = shop.convert(shop.put(data), "raw", "raw")
    assert shop.result() == data
    assert (result.bytes_in, result.bytes_out, result.virtual_size) == (len(data),) * 3


# -- the source ----------------------------------------------------------------------------------


def test_a_source_that_is_missing(make):
    shop = make()
    source = shop.put(b"data")
    shop.path_of(source).unlink()
    assert shop.code_of(source, "raw", "raw") == "source_gone"


@pytest.mark.parametrize("data", [b"", b"dat", b"data and more"])
def test_a_source_of_another_size(make, data):
    shop = make()
    source = shop.put(b"data")
    shop.path_of(source).write_bytes(data)
    assert shop.code_of(source, "raw", "raw") == "source_corrupt"


def test_a_source_with_other_data(make):
    shop = make()
    source = shop.put(b"data")
    shop.path_of(source).write_bytes(b"DATA")
    assert shop.code_of(source, "raw", "raw") == "source_corrupt"
    # Nobody has said what it should be.
    assert shop.code_of(source, "raw", "raw", checksum=None) is None
    assert shop.result() == b"DATA"
    # The digits of a checksum may have any case.
    again = shop.put(b"data")
    assert shop.code_of(again, "raw", "raw", checksum=again.checksum.upper()) is None


class Saying:
    """Stores that raise an error, or have a body of their own."""

    def __init__(self, shop, what):
        self._shop, self._what = shop, what

    def get_size(self, uri, *, trail=()):
        return getattr(self.get(uri), "size", None)

    def get(self, uri, *, trail=()):
        if isinstance(self._what, Exception):
            raise self._what
        return self._what


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exception.StoreObjectNotFound(), "source_gone"),
        (exception.BackendUnavailable(), "store_unavailable"),
        (exception.StoreForbidden(), "store_unavailable"),
        (exception.UnsupportedBackend(), "store_unavailable"),
        (exception.OutOfDescriptors(), "host_failed"),
        (exception.BackendCorrupt(), "source_corrupt"),
    ],
)
def test_what_the_store_of_the_source_says(make, error, code):
    shop = make()
    shop.converter.stores = Saying(shop, error)
    assert (
        shop.code_of(base.AddResult("swift+https://u:secret@host/x", 4, "0"), "raw", "raw") == code
    )


@pytest.mark.parametrize(
    ("size", "length", "chunks", "code"),
    [
        (None, None, [b"da", b"ta"], None),
        (4, None, [b"da", b"ta"], None),
        (4, None, [b"da"], "source_corrupt"),
        (4, 4, [b"da"], "source_corrupt"),
        (4, None, [b"da", b"tata"], "source_corrupt"),
        (5, 4, [b"data"], "source_corrupt"),
        (None, 4, [b"da"], "source_corrupt"),
        (None, None, [b"x" * 100] * 11, "too_large"),
    ],
)
def test_what_the_store_of_the_source_sends(make, size, length, chunks, code):
    closed = []
    shop = make(conversion_max_input_size=1000)
    data = body.IterBody(chunks, length, lambda: closed.append(1), size=length)
    shop.converter.stores = Saying(shop, data)
    source = base.AddResult("file:///x", size, None)
    assert shop.code_of(source, "raw", "raw") == code
    assert closed == [1]


def test_a_source_that_goes_on_is_not_read_on(make):
    """It would take room that was promised to others."""
    taken = []

    def chunks():
        for number in range(20):
            taken.append(number)
            yield b"x" * conversions.MIB

    shop = make()
    shop.converter.stores = Saying(shop, body.IterBody(chunks()))
    source = base.AddResult("file:///x", conversions.MIB, None)
    assert shop.code_of(source, "raw", "raw") == "source_corrupt"
    assert len(taken) < 5


def test_a_source_whose_connection_breaks(make):
    def chunks():
        yield b"da"
        raise exception.BackendUnavailable()

    shop = make()
    shop.converter.stores = Saying(shop, body.IterBody(chunks(), size=4))
    source = base.AddResult("file:///x", 4, None)
    assert shop.code_of(source, "raw", "raw") == "store_unavailable"


def test_a_source_of_unknown_size_waits_for_all_the_room_that_it_may_take(make):
    shop = make(conversion_max_input_size=1 << 60)
    shop.converter.stores = Saying(shop, body.IterBody([b"data"]))
    assert shop.code_of(base.AddResult("file:///x", None, None), "raw", "raw") == "no_space"


def test_a_result_that_is_written_keeps_no_room_from_others(make):
    class Asking(engine.Observer):
        def began(self, phase):
            promised.append((phase, sum(shop.work_dir._promised.values())))

    promised = []
    shop = make()
    shop.convert(shop.put(b"x" * 1000), "raw", "raw", observer=Asking())
    found = dict(promised)
    assert found[engine.Phase.INSPECTING] == 1000
    assert found[engine.Phase.VERIFYING] == found[engine.Phase.UPLOADING] == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 200_000,
        b"\0" * 65536 + b"x",
        b"x" + b"\0" * 5_000_000,
        b"\0" * 3_000_000 + b"x" * 70_000 + b"\0" * 65_535,
        b"x" * 65_535 + b"\0" * 65_537 + b"y",
    ],
    ids=len,
)
def test_holes_do_not_change_the_data(make, data):
    shop = make()
    assert shop.code_of(shop.put(data), "raw", "raw") is None
    assert shop.result() == data


def test_a_format_that_is_not_converted(make):
    shop = make()
    source = shop.put(b"data")
    assert shop.code_of(source, "iso", "raw") == "unsupported_format"
    assert shop.code_of(source, "raw", "../raw") == "unsupported_format"


# -- the inspection ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [Code.UNSAFE_IMAGE, Code.AMBIGUOUS_FORMAT, Code.FORMAT_MISMATCH])
def test_what_the_inspection_refuses_is_never_shown_to_the_tool(make, code, tmp_path):
    def inspect(fd, disk_format):
        raise ConversionError(code, "it names /etc/shadow")

    shop = make(f"touch {tmp_path}/shown", inspect)
    assert shop.code_of(shop.put(b"data"), "raw", "raw") == code.label
    assert not (tmp_path / "shown").exists()


@pytest.mark.parametrize("code", [Code.UNSAFE_IMAGE, Code.AMBIGUOUS_FORMAT, Code.FORMAT_MISMATCH])
def test_a_raw_result_with_marks_of_a_format(make, code):
    seen = []

    def inspect(fd, disk_format):
        seen.append(disk_format)
        if len(seen) == 2:
            raise ConversionError(code)

    shop = make(inspect=inspect)
    assert shop.code_of(shop.put(b"data"), "raw", "raw") == "nested_format"
    assert seen == ["raw", "raw"]


def test_the_limit_of_the_disk_is_that_of_the_inspection_too(make):
    shop = make(inspect=lambda fd, disk_format: 1001, conversion_max_virtual_size=1000)
    assert shop.code_of(shop.put(b"data"), "raw", "raw") == "too_large"


def test_a_result_of_another_size(make):
    shop = make("head -c 3 source > target")
    assert shop.code_of(shop.put(b"data"), "raw", "raw") == "conversion_failed"


def test_a_result_that_the_inspection_measures_otherwise(make):
    sizes = [4, 5]
    shop = make(inspect=lambda fd, disk_format: sizes.pop(0))
    assert shop.code_of(shop.put(b"data"), "raw", "raw") == "conversion_failed"


def test_an_inspection_that_cannot_read(make):
    def inspect(fd, disk_format):
        raise OSError(5, "Input/output error")

    shop = make(inspect=inspect)
    assert shop.code_of(shop.put(b"data"), "raw", "raw") == "host_failed"


# -- the tool ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("convert", "code"),
    [
        ("echo 'qemu-img: error' >&2; exit 1", "conversion_failed"),
        ("kill -XCPU $$", "cpu_limit"),
        ("kill -XFSZ $$", "too_large"),
        ("kill -ABRT $$", "memory_limit"),
        ("head -c 100000000 /dev/zero > target", "too_large"),
        ("sleep 60", "timeout"),
    ],
)
def test_how_the_tool_ends(make, convert, code):
    shop = make(convert, conversion_wall_timeout=1 if code == "timeout" else 60)
    assert shop.code_of(shop.put(b"data"), "raw", "raw") == code
    assert conversions.working_in(shop.work) == set()


def test_the_log_has_the_complaint_without_the_path_and_the_error_has_nothing(make, caplog):
    shop = make(r'printf "qemu-img: \033[31m$PWD/x is\nbad %5000s" y >&2; exit 1')
    with pytest.raises(ConversionError) as caught:
        shop.convert(shop.put(b"data"), "raw", "raw")
    assert str(caught.value) == Code.CONVERSION_FAILED.text
    (line,) = [each.getMessage() for each in caplog.records if "status 1" in each.getMessage()]
    assert str(shop.work) not in line
    assert "/x is bad" in line
    assert len(line) < 5000
    assert line.isprintable()


def test_the_log_has_one_line_for_each_job(make, caplog):
    caplog.set_level("INFO", "glance.conversion.engine")
    shop = make()
    source = shop.put(b"data")
    shop.convert(source, "raw", "raw")
    shop.code_of(source, "raw", "raw", checksum="0" * 32)
    stop = engine.Stop()
    stop.cancel()
    with pytest.raises(errors.Cancelled):
        shop.convert(source, "raw", "raw", stop=stop)
    shop.code_of(source, "iso", "raw")
    lines = [each for each in caplog.records if each.name == "glance.conversion.engine"]
    assert [each.levelname for each in lines] == ["INFO", "WARNING", "INFO", "WARNING"]
    success, corrupt, cancelled, foreign = [each.getMessage().split(": ", 1)[1] for each in lines]
    assert success.startswith(
        "raw to raw: succeeded; source 4 bytes; disk 4 bytes; result 4 bytes; seconds: "
    )
    assert all(phase.value in success for phase in engine.Phase)
    assert "; the tool took 0." in success
    assert corrupt.startswith(
        "raw to raw: source_corrupt in fetching (its checksum is another one); seconds: fetching "
    )
    assert cancelled.startswith("raw to raw: cancelled in the beginning; the tool took 0.00 ")
    assert foreign.startswith("iso to raw: unsupported_format in the beginning; the tool took ")


def test_what_the_tool_puts_in_the_place_of_the_result_is_not_stored(make, tmp_path):
    """Whoever has broken out of the tool could let a link lead to any file of the converter."""
    (tmp_path / "secret").write_bytes(b"secr")
    shop = make(f"rm target source; ln -s {tmp_path}/secret target; touch other; mkdir more")
    code = shop.code_of(shop.put(b"data"), "raw", "raw")
    assert code is not None or shop.result() != b"secr"


def test_a_tool_that_fills_the_directory_leaves_nothing(make):
    shop = make("mkdir -p a/b/c; touch a/b/c/d; chmod 0 a; exit 1")
    assert shop.code_of(shop.put(b"data"), "raw", "raw") == "conversion_failed"


# -- what the tool says of an image --------------------------------------------------------------

PLAIN = {"format": "raw", "filename": "source", "virtual-size": 1024}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"virtual-size": 0}, None),
        ({"children": []}, None),
        ({"children": [{"name": "file", "info": {"filename": "source"}}]}, None),
        ({"format": "vpc"}, Code.FORMAT_MISMATCH),
        ({"format": None}, Code.FORMAT_MISMATCH),
        ({"backing-filename": "/etc/passwd"}, Code.UNSAFE_IMAGE),
        ({"full-backing-filename": "/etc/passwd"}, Code.UNSAFE_IMAGE),
        ({"encrypted": True}, Code.UNSAFE_IMAGE),
        ({"snapshots": [{"id": "1"}]}, Code.UNSAFE_IMAGE),
        ({"filename": "/etc/passwd"}, Code.UNSAFE_IMAGE),
        ({"filename": "target"}, Code.UNSAFE_IMAGE),
        ({"format-specific": {"data": {"data-file": "x"}}}, Code.UNSAFE_IMAGE),
        ({"format-specific": {"data": {"data-file-raw": True}}}, Code.UNSAFE_IMAGE),
        ({"format-specific": {"data": {"encrypt": {}}}}, Code.UNSAFE_IMAGE),
        ({"format-specific": {"data": []}}, None),
        ({"format-specific": []}, None),
        ({"children": [{"name": "backing", "info": {"filename": "source"}}]}, Code.UNSAFE_IMAGE),
        ({"children": [{"name": "file", "info": {"filename": "x"}}]}, Code.UNSAFE_IMAGE),
        ({"children": [{"name": "file"}]}, Code.UNSAFE_IMAGE),
        ({"children": ["file"]}, Code.UNSAFE_IMAGE),
        ({"children": 7}, Code.UNSAFE_IMAGE),
        ({"virtual-size": -1}, Code.CONVERSION_FAILED),
        ({"virtual-size": True}, Code.CONVERSION_FAILED),
        ({"virtual-size": "1024"}, Code.CONVERSION_FAILED),
        ({"virtual-size": None}, Code.CONVERSION_FAILED),
    ],
)
def test_the_second_opinion(change, code):
    def ask():
        return qemu._checked({**PLAIN, **change}, "source", formats.of("raw"), ())

    if code is None:
        assert ask() == change.get("virtual-size", 1024)
        return
    with pytest.raises(ConversionError) as caught:
        ask()
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("details", "is_fine"),
    [
        ({"create-type": "streamOptimized", "extents": [{}]}, True),
        ({"create-type": "monolithicSparse", "extents": [{}]}, True),
        ({"create-type": "monolithicFlat", "extents": [{}]}, False),
        ({"create-type": "twoGbMaxExtentSparse", "extents": [{}]}, False),
        ({"create-type": "streamOptimized", "extents": [{}, {}]}, False),
        ({"create-type": "streamOptimized", "extents": []}, False),
        ({"create-type": "streamOptimized"}, False),
        ({"extents": [{}]}, False),
        ({"create-type": ["streamOptimized"], "extents": [{}]}, False),
        ({}, False),
    ],
)
def test_the_second_opinion_of_a_vmdk(details, is_fine):
    said = {**PLAIN, "format": "vmdk", "format-specific": {"data": details}}
    kinds = ("streamOptimized", "monolithicSparse")
    if is_fine:
        assert qemu._checked(said, "source", formats.of("vmdk"), kinds) == 1024
        return
    with pytest.raises(ConversionError) as caught:
        qemu._checked(said, "source", formats.of("vmdk"), kinds)
    assert caught.value.code is Code.UNSAFE_IMAGE


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("no json", "conversion_failed"),
        ("[]", "conversion_failed"),
        ("[" * 100_000, "conversion_failed"),
        ('{"format": "raw"', "conversion_failed"),
        (r"\377\376", "conversion_failed"),
        ("", "conversion_failed"),
        ("x" * 1_100_000, "unsafe_image"),
    ],
    ids=len,
)
def test_what_the_tool_says_may_be_anything(tmp_path, said, code):
    (tmp_path / "said").write_bytes(said.encode().replace(rb"\377\376", b"\xff\xfe"))
    path = tmp_path / "qemu-img"
    path.write_text(
        f"#!/bin/sh\n[ $1 = --version ] && echo qemu-img version 9.0 || cat {tmp_path}/said\n"
    )
    path.chmod(0o755)
    shop = Workshop(
        tmp_path, conversions.uninspected, conversion_sandbox="none", conversion_qemu_img=path
    )
    assert shop.code_of(shop.put(b"data"), "raw", "raw") == code
    assert shop.left() == []


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_progress_is_read_from_pieces_of_any_size(step):
    text = b"".join(b"    (%d.%02d/100%%)\r" % (n // 4, n % 4 * 25) for n in range(401)) + b"\n"
    seen = []
    progress = qemu._Progress(seen.append)
    for start in range(0, len(text), step):
        progress(text[start : start + step])
    assert seen[-1] == 100
    assert seen == sorted(set(seen))
    if step < 1000:
        assert seen == list(range(101))


def test_progress_that_makes_no_sense_is_left_out():
    seen = []
    progress = qemu._Progress(seen.append)
    for piece in (b"(x/100%)", b"(999.00/100%)", b"(50.00/100%)", b"\xff" * 100, b"(100/100%)"):
        progress(piece)
    assert seen == [100]


# -- the result ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exception.BackendUnavailable(), "store_unavailable"),
        (exception.StorageWriteDenied(), "store_unavailable"),
        (exception.StoreAddDisabled(), "store_unavailable"),
        (exception.StoreObjectExists(), "store_unavailable"),
        (exception.RegistryUnavailable(), "store_unavailable"),
        (exception.StorageFull(), "store_full"),
        (exception.QuotaExceeded(), "store_full"),
        (exception.ImageSizeLimitExceeded(), "too_large"),
        (exception.OutOfDescriptors(), "host_failed"),
        (OSError(28, "No space left on device"), "no_space"),
        (OSError(5, "Input/output error"), "host_failed"),
    ],
)
def test_what_the_end_of_the_upload_says(make, error, code):
    def settle(added):
        raise error

    shop = make()
    assert shop.code_of(shop.put(b"data"), "raw", "raw", settle=settle) == code


def test_an_error_of_the_caller_passes(make):
    def settle(added):
        raise exception.ImageDeleted("gone")

    shop = make()
    with pytest.raises(exception.ImageDeleted):
        shop.convert(shop.put(b"data"), "raw", "raw", settle=settle)


@pytest.mark.parametrize("store", ["s3", "nowhere", "http"])
def test_a_store_that_takes_nothing(make, store):
    shop = make()
    order = shop.order(shop.put(b"data"), "raw", "raw")
    with pytest.raises(ConversionError) as caught:
        shop.converter.convert(order, shop.delivery(shop.stored.append, store))
    assert caught.value.code is Code.STORE_UNAVAILABLE


def test_an_upload_may_be_anybodys(make):
    """The transaction of the API, for one: it takes a stream and its size."""
    got = []
    shop = make()
    shop.converter.convert(
        shop.order(shop.put(b"data"), "raw", "raw"),
        lambda stream, size: got.append((stream.read(3), stream.read(9), stream.read(9), size)),
    )
    assert got == [(b"dat", b"a", b"", 4)]


# -- ends and errors of others -------------------------------------------------------------------


@pytest.mark.parametrize("method", ["began", "progressed"])
@pytest.mark.parametrize("turn", range(5))
def test_an_error_of_the_observer_leaves_nothing(make, method, turn):
    class Failing(engine.Observer):
        calls = 0

        def fail(self):
            self.calls += 1
            if self.calls > turn:
                raise exception.RegistryUnavailable()

    setattr(Failing, method, lambda self, *args: self.fail())
    shop = make()
    source = shop.put(b"data" * 100)
    code = shop.code_of(source, "raw", "raw", observer=Failing())
    assert code == "store_unavailable"


def test_a_slip_passes_and_leaves_nothing(make):
    def inspect(fd, disk_format):
        raise ZeroDivisionError

    shop = make(inspect=inspect)
    with pytest.raises(ZeroDivisionError):
        shop.convert(shop.put(b"data"), "raw", "raw")


def test_who_has_cancelled_is_told_so_first(make):
    stop = engine.Stop()
    stop.interrupt()
    stop.cancel()
    shop = make()
    with pytest.raises(errors.Cancelled):
        shop.convert(shop.put(b"data"), "raw", "raw", stop=stop)
    assert os.listdir(shop.work) == []


def test_progress_is_told_once_in_a_while_and_at_the_end(make):
    class Counting(engine.Observer):
        def __init__(self):
            self.told = []

        def progressed(self, percent, count):
            self.told.append(percent)

    shop, told = make(), Counting()
    shop.convert(shop.put(conversions.noise(20_000_000)), "raw", "raw", observer=told)
    assert told.told.count(100) >= 3
    assert len(told.told) < 20


# -- the check at start --------------------------------------------------------------------------


def test_a_tool_that_is_too_old(tmp_path):
    for version, wanted, is_fine in (
        ("7.1.9", "7.2", False),
        ("6", "7.2", False),
        ("7.2.0", "7.2", True),
        ("7.10", "7.2", True),
        ("10.0.1", "7.2", True),
        ("7.2", "7.2.1", False),
    ):
        path = tool(tmp_path, version=version)
        options = {"conversion_sandbox": "none", "conversion_qemu_img": path}
        if is_fine:
            Workshop(tmp_path, conversion_min_qemu_version=wanted, **options)
            continue
        with pytest.raises(exception.ConfigError, match=f"install {wanted} or later") as caught:
            Workshop(tmp_path, conversion_min_qemu_version=wanted, **options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "missing or cannot be executed"),
        ("", "missing or cannot be executed"),
        ("#!/bin/sh\necho hello\n", "not qemu-img"),
        ("#!/bin/sh\nexit 3\n", "fails with status 3"),
        ("#!/bin/sh\necho 'a\nb' >&2; exit 1\n", r"\(a b\)"),
        ("#!/nowhere\n", "fails with status 125"),
    ],
)
def test_a_tool_that_is_none(tmp_path, text, match):
    path = tmp_path / "qemu-img"
    if text is not None:
        path.write_text(text)
        path.chmod(0o755 if text else 0o644)
    with pytest.raises(exception.ConfigError, match=match) as caught:
        Workshop(tmp_path, conversion_sandbox="none", conversion_qemu_img=path)
    assert "\n" not in str(caught.value)


def test_a_sandbox_is_made_of_constants_and_settings(tmp_path):
    shop = Workshop(tmp_path, conversion_sandbox="none", conversion_qemu_img=tool(tmp_path))
    assert shop.box.environment("/job")["TMPDIR"] == "/job"
    limits = sandbox.RunLimits(1, 2, 3)
    command = shop.box.command("/job", limits, ["info"])
    assert command[-3:] == ["/job", str(tmp_path / "qemu-img"), "info"]


def test_nothing_of_a_user_is_in_what_the_tool_is_told():
    assert qemu.device("source", formats.of("qcow2")) == (
        'json:{"driver": "qcow2", "read-only": true, "backing": null, '
        '"file": {"driver": "file", "filename": "source", "read-only": true}}'
    )
    assert '"backing"' not in qemu.device("target", formats.of("vhd"))
