"""The HTTP/1.1 client: connections, responses, a pool of them, proxies. Everything uses it."""
