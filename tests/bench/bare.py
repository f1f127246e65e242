"""A bare eventlet application: the same answer to every request. Arguments: port, answer file."""

import json
import pathlib
import sys

import eventlet
import eventlet.wsgi


def main() -> None:
    port, answer_file = int(sys.argv[1]), pathlib.Path(sys.argv[2])
    answer = json.loads(answer_file.read_text())
    headers = [(name, value) for name, value in answer["headers"]]
    body = [answer["body"].encode("latin-1")]

    def application(environ, start_response):
        environ["wsgi.input"].read()
        start_response(answer["status"], headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    listener = eventlet.listen(("127.0.0.1", port), backlog=128)
    eventlet.wsgi.server(listener, application, log_output=False)


if __name__ == "__main__":
    main()
