"""A large image goes to S3 and back while the processes stay as small as they were."""

import pytest
from test_memory import GROWTH, WARM_UP, download, upload, watched

from support.longer import LONG
from support.swift_node import KEY, USER, SwiftNode

pytestmark = pytest.mark.slow

SIZE = (1 << 30) if LONG else (320 << 20)


@pytest.fixture
def swift(tmp_path):
    with SwiftNode(tmp_path / "swift", settings={"slo.allow_async_delete": "false"}) as node:
        yield node


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_a_large_image_to_s3_and_back_leaves_memory_flat(make_site, swift, tmp_path, chunked):
    site = make_site(
        api={
            "default_store": "s3",
            "s3_store_host": swift.address,
            "s3_store_access_key": USER,
            "s3_store_secret_key": KEY,
            "s3_store_bucket": "glance",
            "s3_store_create_bucket_on_put": True,
            "s3_store_object_buffer_dir": tmp_path,
        }
    )
    image_id, _ = upload(site, WARM_UP, chunked=chunked)
    download(site, image_id)
    with watched(site) as growth:
        image_id, digest = upload(site, SIZE, chunked=chunked)
        assert download(site, image_id) == (digest, SIZE)
    print(f"grew by {growth} bytes")
    assert max(growth.values()) < GROWTH, growth
    assert site.http.delete(f"/v1/images/{image_id}").status == 200
    assert f"glance/{image_id}" not in swift.names()
