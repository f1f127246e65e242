"""Packaging: everything is declared in setup.cfg."""

import importlib.util
import os
import subprocess
import sys

import setuptools

#: Commands that install, each with what pip calls it; None: pip has nothing like it.
INSTALLING = {
    "install": ("install",),
    "develop": ("install", "--editable"),
    "easy_install": None,
    "install_lib": None,
    "install_scripts": None,
}
#: Options of a caller that brings the libraries itself, as pip and makers of packages do.
CARED_FOR = {"root", "single_version_externally_managed", "no_deps", "uninstall"}
#: Options that pip has under the same names.
SHARED = {"user": False, "prefix": True}


class Distribution(setuptools.Distribution):
    """Has pip do what was meant by `setup.py install`, which alone installs no libraries."""

    def run_commands(self):
        for name in self.commands:
            options = self._told(name)
            if name in INSTALLING and not CARED_FOR & options.keys():
                sys.exit(self._by_pip(name, options))
        super().run_commands()

    def _told(self, name):
        """Return the options of a command that were given on the command line."""
        given = self.command_options.get(name, {})
        return {key: text for key, (source, text) in given.items() if source == "command line"}

    def _by_pip(self, name, options):
        words = INSTALLING[name]
        if words is None or options.keys() - SHARED.keys() or not importlib.util.find_spec("pip"):
            here = "-e ." if name == "develop" else "."
            return (
                f"ERROR: setup.py {' '.join(self.commands)} would leave out the libraries that "
                f"glance needs: run python -m pip install {here}"
            )
        places = [
            f"--{key}={text}" if SHARED[key] else f"--{key}" for key, text in options.items()
        ]
        home = os.path.dirname(os.path.abspath(self.script_name or sys.argv[0]))
        print(f"setup.py {name}: pip does this, because the libraries have to be installed, too")
        sys.stdout.flush()
        command = [sys.executable, "-m", "pip", words[0], *places, *words[1:], home]
        return subprocess.call(command)


setuptools.setup(distclass=Distribution)
