#!/usr/bin/env python3
"""Ask glance-api for Squid whether a caller may have an image, before Squid looks for it.

A helper of Squid's external_acl_type (see squid.conf beside it); needs Python 3.7 or later, and
nothing else. The argument is the URL of the API. Each line of the standard input is a question,

    CHANNEL PATH X-AUTH-TOKEN X-STORAGE-TOKEN AUTHORIZATION

with words that are percent-encoded, and "-" for one that is missing. The response to it is
"CHANNEL OK" if the API sends 200 for a HEAD of that path with these fields and permits to share
what it has; "CHANNEL ERR" if it does not; "CHANNEL BH" if it cannot be asked. Squid takes what is
not OK past its cache. Tokens are neither kept nor shown.
"""

import http.client
import queue
import sys
import threading
import urllib.parse

FIELDS = ("X-Auth-Token", "X-Storage-Token", "Authorization")
#: How many questions are with the API at a time, and how long one may take, in seconds.
THREADS = 32
TIMEOUT = 60


class Api:
    """One connection to the API, opened anew when it has ended."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise ValueError("give the URL of glance-api, such as http://127.0.0.1:9393")
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname, port, timeout=TIMEOUT)

    def permits(self, path, headers):
        """Return whether the caller with these header fields may have what others have, too."""
        for attempt in (1, 2):
            try:
                self._connection.request("HEAD", path, headers=headers)
                response = self._connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                self._connection.close()
                # One that was kept may have ended meanwhile.
                if attempt == 2:
                    raise
                continue
            control = (response.getheader("Cache-Control") or "").lower()
            shared = "public" in control and "private" not in control and "no-store" not in control
            return response.status == 200 and shared
        raise AssertionError("unreachable")


def respond(api, line, lock):
    """Write the response to one question; the lock keeps lines whole."""
    channel, *words = line.split()
    try:
        path, *values = words
        headers = {}
        for number, value in enumerate(values[: len(FIELDS)]):
            if value != "-":
                headers[FIELDS[number]] = urllib.parse.unquote(value, "latin-1")
        verdict = "OK" if api.permits(path, headers) else "ERR"
    except (OSError, ValueError, http.client.HTTPException):
        verdict = "BH"
    with lock:
        sys.stdout.write(f"{channel} {verdict}\n")
        sys.stdout.flush()


def work(url, questions, lock):
    api = Api(url)
    while True:
        line = questions.get()
        try:
            respond(api, line, lock)
        finally:
            questions.task_done()


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: ask-glance.py http://HOST:PORT")
    try:
        Api(sys.argv[1])
    except ValueError as err:
        sys.exit(f"ERROR: {err}")
    # Squid has at most as many questions open as its configuration permits ("concurrency").
    questions, lock = queue.Queue(), threading.Lock()
    for _ in range(THREADS):
        threading.Thread(target=work, args=(sys.argv[1], questions, lock), daemon=True).start()
    try:
        for line in sys.stdin:
            if line.strip():
                questions.put(line)
        questions.join()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
