"""What python-swiftclient does by itself with the same Swift: one object up, or down.

Arguments: up or down, authentication URL, user, key, container, object, file (up). Prints the
seconds.
"""

import pathlib
import sys
import time

import swiftclient


def main() -> None:
    what, url, user, key, container, name = sys.argv[1:7]
    connection = swiftclient.Connection(
        authurl=url, user=user, key=key, auth_version="1", retries=0
    )
    # The token is no part of the transfer.
    connection.put_container(container)
    begin = time.perf_counter()
    if what == "up":
        path = pathlib.Path(sys.argv[7])
        with path.open("rb") as data:
            connection.put_object(container, name, data, content_length=path.stat().st_size)
    else:
        _, data = connection.get_object(container, name, resp_chunk_size=65536)
        for _ in data:
            pass
    print(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
