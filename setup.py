"""Packaging: everything is declared in setup.cfg; only the list of scripts is taken from bin/."""

import pathlib

import setuptools

# glance-quickstart works on a checkout, so it is not installed.
SCRIPTS = sorted(
    str(path)
    for path in pathlib.Path("bin").glob("glance*")
    if path.suffix == "" and path.name != "glance-quickstart"
)

setuptools.setup(scripts=SCRIPTS)
