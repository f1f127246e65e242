"""Suites that judge drivers, shipped so that drivers from elsewhere can be judged by them too.

`faults` is the proxy that makes a remote backend fail. The suites need pytest. Nothing of the
services imports this package.
"""
