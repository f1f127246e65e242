"""Conformance suites for drivers, shipped so that drivers of other packages can use them too.

`faults` is a proxy that makes a remote backend fail. The suites need pytest. No service imports
this package.
"""
