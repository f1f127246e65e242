"""What boto does by itself with the same S3 server: a multipart upload, or a download.

Arguments: up or down, port, access key, secret, bucket, key, file (up). Prints the seconds.
"""

import io
import pathlib
import sys
import time

from boto.s3.connection import OrdinaryCallingFormat, S3Connection

PART = 10 * 1024 * 1024


class Version4(S3Connection):
    """A connection that signs as glance does, version 4 (the default is 2)."""

    def _required_auth_capability(self):
        return ["hmac-v4-s3"]

    def server_name(self, port=None):
        return self.host


def main() -> None:
    what, port, access, secret, name, key = sys.argv[1:7]
    connection = Version4(
        access,
        secret,
        host="127.0.0.1",
        port=int(port),
        is_secure=False,
        calling_format=OrdinaryCallingFormat(),
    )
    connection.auth_region_name = "us-east-1"
    bucket = connection.get_bucket(name, validate=False)
    begin = time.perf_counter()
    if what == "up":
        upload = bucket.initiate_multipart_upload(key)
        with pathlib.Path(sys.argv[7]).open("rb") as data:
            number = 0
            while part := data.read(PART):
                number += 1
                upload.upload_part_from_file(io.BytesIO(part), number)
        upload.complete_upload()
    else:
        found = bucket.new_key(key)
        found.open_read()
        while found.resp.read(65536):
            pass
        found.close(fast=True)
    print(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
