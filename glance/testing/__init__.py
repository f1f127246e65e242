"""Suites that judge drivers, shipped so that drivers from elsewhere can be judged by them too.

They need pytest. Nothing of the services imports this package.
"""
