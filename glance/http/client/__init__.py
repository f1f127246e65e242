"""The HTTP/1.1 client: connections, responses, connection pools, proxies."""
