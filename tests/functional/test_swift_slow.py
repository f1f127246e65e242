"""Gigabytes through the Swift store with flat memory; and not one byte too many after hundreds of
uploads that end in every way.
"""

import contextlib
import random
import time

import pytest
from test_memory import GROWTH, WARM_UP, download, upload, watched

from glance.testing.faults import Fault, FaultProxy

from support import places
from support.faults import Upload, new_id, until
from support.longer import LONG
from support.swift_node import SwiftNode

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
ROUNDS = 400 if LONG else 100
#: Bytes of an image of known size, which is in segments; of unknown size; and the options that say
#: where segments begin: none in the long form, which is what an operator has who sets nothing.
SIZED, CHUNKED = (5 << 30, 1 << 30) if LONG else (320 * MIB, 320 * MIB)
SEGMENTS: dict[str, object] = {} if LONG else {"swift_store_large_object_size": 256}


@pytest.fixture
def node(tmp_path):
    with SwiftNode(tmp_path / "swift") as running:
        yield running


# A known size makes segments from 5 GiB on, an unknown one as soon as there is more than one.
@pytest.mark.parametrize(
    ("size", "chunked"), [(SIZED, False), (CHUNKED, True)], ids=["sized", "chunked"]
)
def test_gibibytes_to_swift_and_back_leave_memory_flat(make_site, node, tmp_path, size, chunked):
    spool = tmp_path / "spool"
    spool.mkdir()
    site = make_site(api={"default_store": "swift", **node.store_options(spool), **SEGMENTS})
    image_id, _ = upload(site, WARM_UP, chunked=chunked)
    download(site, image_id)
    with watched(site) as growth:
        started = time.monotonic()
        image_id, digest = upload(site, size, chunked=chunked)
        between = time.monotonic()
        assert download(site, image_id) == (digest, size)
    up, down = between - started, time.monotonic() - between
    print(f"grew by {growth} bytes; {size / up / 1e6:.0f} MB/s up, {size / down / 1e6:.0f} down")
    assert max(growth.values()) < GROWTH, growth
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    assert not [name for name in node.names("glance") if str(image_id) in name]


#: What may happen to an upload on its way into Swift; each strikes some object of it, or none.
TROUBLES = [
    Fault("PUT", r"/\d+$", status=503),
    Fault("PUT", r"/\d+$", 2, status=503),
    Fault("PUT", r"-0000\d$", 2, status=503),
    Fault("PUT", r"-0000\d$", 2, cut_request=1000),
    Fault("PUT", r"-0000\d$", cut_response=-1),
    Fault("PUT", r"/\d+$", cut_response=-1),
    Fault("PUT", "manifest=put", 2, status=500),
    Fault("PUT", "", 2, status=413),
    Fault("HEAD", "", 2, status=503),
    Fault("DELETE", "", 2, status=503),
]


def test_after_hundreds_of_mixed_ends_swift_holds_what_is_active_and_no_more(
    make_site, node, tmp_path
):
    chance = random.Random(1)
    data = chance.randbytes(3 * MIB)
    sizes = [0, 1, 1000, MIB, MIB + 1, 2 * MIB, 5 * MIB // 2, 3 * MIB]
    ends: dict[object, int] = {}
    with FaultProxy(node.port) as proxy:
        place = places.Container(node, tmp_path / "spool", proxy.port)
        site = make_site(store=place, workers=2, api={"swift_store_retries": 0})
        active: dict[int, int] = {}
        for _ in range(ROUNDS):
            proxy.clear()
            deed = chance.random()
            if deed < 0.3:
                # Of uploads only: a deletion that fails waits for a pass of the scrubber.
                proxy.order(chance.choice(TROUBLES))
            size = chance.choice(sizes)
            if deed > 0.8 and active:
                image_id = chance.choice(list(active))
                end = site.http.delete(f"/v1/images/{image_id}").status
                assert end == 200
                del active[image_id]
            elif deed > 0.7:
                end = "vanished"
                with Upload(site, new_id()) as broken:
                    broken.send(data[: size + 1])
            else:
                body = data[:size]
                image_id = new_id()
                # Without chunks, no bytes would be no data.
                unknown = not size or chance.random() < 0.5
                end = site.http.add(iter([body]) if unknown else body, id=image_id).status
                if end == 201:
                    active[image_id] = size
            ends[end] = ends.get(end, 0) + 1
        proxy.clear()
        # What could not be removed when it failed is settled at the next start.
        site.api.stop()
        site.api.start()

        def settled() -> bool:
            with contextlib.suppress(FileNotFoundError):
                return not any(place.spool_dir.iterdir())
            return False

        until(settled, "all traces are settled", 60)
        names = {path.name.partition("-")[0] for path in place.held()}
        print(f"{ends}; {len(active)} active")
        for image_id, size in active.items():
            assert site.http.get(f"/v1/images/{image_id}").body == data[:size]
        assert names == {str(image_id) for image_id in active}
        assert sum(_bytes(node, place.name, image_id) for image_id in active) == sum(
            active.values()
        )


def _bytes(node: SwiftNode, container: str, image_id: int) -> int:
    """Return the bytes of an image's objects: the only one, or its segments."""
    found = node.names(container)
    segments = [name for name in found if name.startswith(f"{container}/{image_id}-")]
    total = 0
    for name in segments or [f"{container}/{image_id}"]:
        total += int(node.request("HEAD", f"/{name}")[1]["content-length"])
    return total
