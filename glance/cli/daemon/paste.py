"""Find a program's configuration file and load from it: settings, and the paste application.

Called by the programs of `glance.cli`. Options are declared with `glance.common.config`; this
module only makes a `Conf` and an application from a file.
"""

from __future__ import annotations

import configparser
import contextlib
import dataclasses
import functools
import logging
import os
import re
import stat
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from paste.deploy import loadwsgi

from glance.cli.daemon import readers
from glance.common import config, exception, ini
from glance.http import wsgi
from glance.identity import authtoken
from glance.identity import context as identity_context

LOG = logging.getLogger(__name__)

App = TypeVar("App")

#: Where a program searches `<program>.conf` if no file is named; the first match wins.
SEARCH_PATH = (".", "~/.glance", "~", "/etc/glance", "/etc")

#: Factories of filters that make the request context: ours, Diablo's, and that of its Keystone.
CONTEXT_FACTORIES = {
    "glance.identity.context:filter_factory",
    "glance.common.context:filter_factory",
    "keystone.middleware.glance_auth_token:filter_factory",
}
#: Factories that are replaced: name in a file -> factory that is called.
_REPLACED = {
    **dict.fromkeys(authtoken.FACTORIES, "glance.identity.authtoken:filter_factory"),
    "glance.common.context:filter_factory": "glance.identity.context:filter_factory",
    "keystone.middleware.glance_auth_token:filter_factory": "glance.identity.context:shim_factory",
}
#: Packages whose filters do not authenticate, unless their names say so.
_HARMLESS = frozenset({"glance", "paste", "oslo_middleware", "oslo.middleware"})
#: Keys of a section that belong to paste.
_PASTE_KEYS = frozenset({"use", "pipeline", "filter-with", "next"})
_AUTH_WORDS = re.compile("auth|token|keystone|identity|sso", re.IGNORECASE)


def find_config_file(
    program: str,
    option: str | None = None,
    argument: str | None = None,
    *,
    others: Sequence[str] = (),
) -> str:
    """Return the absolute path of the configuration file of `program`.

    `option` is the value of `--config-file`, `argument` the first positional argument; a directory
    means its `<program>.conf`. A named file that is missing is an error; it is never replaced by
    another one. If neither is given, SEARCH_PATH is searched. `others` are programs whose files
    are used if there is none of `program`. Raises ConfigError.
    """
    names = [f"{each}.conf" for each in (program, *others)]
    missing = f"Unable to locate any configuration file. Cannot load application {program}"
    named = option or argument
    if named:
        path = os.path.abspath(os.path.expanduser(named))
        if os.path.isdir(path):
            inside = [os.path.join(path, name) for name in names]
            path = next(filter(os.path.isfile, inside), inside[0])
        if not os.path.isfile(path):
            raise exception.ConfigError(f"{missing}\nThe file {path} does not exist")
        return path
    for name in names:
        for directory in SEARCH_PATH:
            path = os.path.abspath(os.path.join(os.path.expanduser(directory), name))
            if os.path.isfile(path):
                return path
    raise exception.ConfigError(missing)


class _Interpolation(configparser.BasicInterpolation):
    """Interpolate `%(here)s` and the like, and leave every other `%` unchanged.

    NOTE: a log format contains `%(asctime)s`, which must not be an error.
    """

    def before_get(
        self, parser: Any, section: str, option: str, value: str, defaults: Mapping[str, str]
    ) -> str:
        try:
            return super().before_get(parser, section, option, value, defaults)
        except configparser.InterpolationError:
            return value

    def before_set(self, parser: Any, section: str, option: str, value: str) -> str:
        return value


class _Parser(ini.IniParser, loadwsgi.NicerConfigParser):  # type: ignore[misc]  # as above
    """Paste's parser, which interpolates defaults, for the syntax of Python 2."""

    def __init__(self, filename: str, **options: Any):
        loadwsgi.NicerConfigParser.__init__(self, filename, **options)


class _Loader(loadwsgi.ConfigLoader):  # type: ignore[misc]  # pastedeploy ships no hints
    """Paste's loader with lenient interpolation, in which a section's own keys take precedence."""

    def __init__(self, filename: str):
        self.filename = filename
        defaults = {"here": os.path.dirname(filename), "__file__": filename}
        self.parser = _Parser(
            filename, defaults=defaults, interpolation=_Interpolation(), strict=False
        )
        self.parser.read_path(filename)

    def get_context(self, object_type: Any, name: Any = None, global_conf: Any = None) -> Any:
        if name is not None and name.lower().startswith("config:"):
            return self._context_of_file(object_type, name, global_conf)
        context = super().get_context(object_type, name, global_conf)
        if not self.absolute_name(name):
            # NOTE: paste omits a key that is also in [DEFAULT], so it would not override that.
            section = self.find_config_section(object_type, name=name)
            own = set(self.parser._sections[section]) & set(self.parser._defaults)
            for key in own - {"here", "__file__"}:
                context.local_conf.setdefault(key, self.parser.get(section, key))
        return context

    def _context_of_file(self, object_type: Any, reference: str, global_conf: Any) -> Any:
        """Load from another file, `config:PATH#SECTION`, which has the same syntax."""
        path, _, section = reference.partition(":")[2].partition("#")
        here = os.path.dirname(self.filename)
        loader = _Loader(os.path.join(here, urllib.parse.unquote(path)))
        loader.update_defaults(global_conf or {}, overwrite=False)
        return loader.get_context(object_type, section or "main", global_conf)

    def _context_from_explicit(
        self, object_type: Any, local_conf: Any, global_conf: Any, *rest: Any
    ) -> Any:
        replaced = {
            name: _REPLACED.get(value, value) if name.startswith("paste.") else value
            for name, value in local_conf.items()
        }
        return super()._context_from_explicit(object_type, replaced, global_conf, *rest)


def _read(path: str) -> _Loader:
    try:
        return _Loader(path)
    except (OSError, UnicodeDecodeError, configparser.Error) as err:
        reason = ini.describe(err)
        raise exception.ConfigError(f"Error trying to load config {path}: {reason}") from None


def load_shared_conf(path: str) -> config.Conf:
    """Return the settings of `[DEFAULT]` for a program that is not a server.

    The file may be another program's: it needs no application, and authentication does not matter.
    Raises ConfigError if the file cannot be read.
    """
    return config.from_file(dict(_read(path).parser.defaults()), path)


def load_conf(program: str, path: str) -> config.Conf:
    """Return the settings of `[DEFAULT]`, with `auth_mode` as decided by `decide_auth_mode`.

    Raises ConfigError if the file cannot be read or has no application for `program`.
    """
    loader = _read(path)
    _require_application(loader, program, path)
    values = dict(loader.parser.defaults())
    with naming(path):
        values["auth_mode"] = decide_auth_mode(loader.parser, program)
    return config.from_file(values, path)


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Have the errors of a block name the configuration file, each of their problems once."""
    try:
        yield
    except exception.ConfigError as err:
        named = [each if path in each else f"{path}: {each}" for each in err.problems]
        if named == err.problems:
            raise
        raise exception.ConfigError(named) from err


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """A section of a pipeline, a filter or the application: its factory and its own settings.

    `source` is its name in messages.
    """

    factory: str
    own: Mapping[str, str]
    source: str

    @property
    def is_ours(self) -> bool:
        """Whether it is part of glance, so that its settings are options."""
        return self.factory.startswith("glance.")


def load_sections(program: str, path: str) -> list[Section]:
    """Return the filters of the pipeline of `program` and its applications, in their order.

    There is one application, unless the pipeline ends in a composite of several.

    Sections that paste finds in other files or makes itself are omitted, and so are missing ones,
    which `load_paste_app` reports. Raises ConfigError if the file cannot be read.
    """
    parser = _read(path).parser
    names = [f"app:{program}"]
    if parser.has_option(f"pipeline:{program}", "pipeline"):
        words = parser.get(f"pipeline:{program}", "pipeline").split()
        names = [f"filter:{name}" for name in words[:-1]]
        names += [section for name in words[-1:] for section in _ends(parser, name)]
    sections = []
    for name in filter(parser.has_section, names):
        own = {
            key: parser.get(name, key)
            for key in parser._sections[name]
            if key not in _PASTE_KEYS and not key.startswith(("paste.", "set ", "get ", "/"))
        }
        source = f"{path} [{name}]"
        sections.append(Section(_factory(parser, name), own, source))
    return sections


def _ends(parser: configparser.ConfigParser, name: str) -> list[str]:
    """Return the sections behind the last word of a pipeline: an application, or a composite.

    The applications that a composite mounts come after it.
    """
    composite = f"composite:{name}"
    if not parser.has_section(composite):
        return [f"app:{name}"]
    mounts = parser._sections[composite]  # type: ignore[attr-defined]  # undocumented
    apps = [f"app:{parser.get(composite, path)}" for path in sorted(mounts) if path[:1] == "/"]
    return [composite, *dict.fromkeys(apps)]


def exposed_secrets(path: str) -> list[str]:
    """Return the names of the secrets in a file that everybody on this host may read."""
    if not os.stat(path).st_mode & stat.S_IROTH:
        return []
    parser = _read(path).parser
    found = {*config.Conf(parser.defaults()).secrets()}
    for name in parser.sections():
        found |= {*config.Conf(parser._sections[name]).secrets()}
    return sorted(found)


def load_shared_app(program: str, path: str, factory: Callable[[Mapping[str, Any]], App]) -> App:
    """Return the application from the section of `program`, or from `factory` without a section.

    For programs that are not servers, whose file may be another program's. Raises ConfigError like
    `load_paste_app`.
    """
    loader = _read(path)
    try:
        with naming(path):
            if loader.parser.has_section(f"app:{program}"):
                app: App = loader.get_app(program, {})
            else:
                app = factory(loader.parser.defaults())
    except exception.ConfigError:
        raise
    except Exception as err:  # a factory may raise anything; the operator gets one message
        raise _unloadable(program, path, err) from err
    return app


def _unloadable(program: str, path: str, err: Exception) -> exception.ConfigError:
    LOG.debug("Loading %s failed", program, exc_info=True)
    shown = str(err) if isinstance(err, exception.Error) else repr(err)
    return exception.ConfigError(
        f"Unable to load {program} from configuration file {path}.\nGot: {shown}"
    )


def load_paste_app(program: str, path: str) -> tuple[config.Conf, wsgi.WSGIApp]:
    """Return the settings and the application of `program`; the factories run now.

    If a token filter authenticates callers, identity headers in the request itself are removed
    before any filter sees them.

    Raises ConfigError, with all problems of the settings at once, or with the error of the factory
    of an application or filter.
    """
    conf = load_conf(program, path)
    loader = _read(path)
    sections = load_sections(program, path)
    made = {"auth_mode": str(conf.auth_mode)}
    if secret := account_secret(sections):
        made[authtoken.ACCOUNT_SECRET] = secret
    loader.update_defaults(made)
    try:
        with naming(path):
            app = loader.get_app(program, {})
    except exception.ConfigError:
        raise
    except Exception as err:  # a factory may raise anything; the operator gets one message
        raise _unloadable(program, path, err) from err
    conf.check(functools.partial(readers.reads, program))
    if conf.auth_mode == "keystone" or any(s.factory in authtoken.FACTORIES for s in sections):
        app = identity_context.IdentityGuard(app)
    return conf, app


def account_secret(sections: Iterable[Section]) -> str | None:
    """Return what `authtoken.account_secret` makes of the token filter of a pipeline, or None."""
    for section in sections:
        if section.factory in authtoken.FACTORIES and (
            secret := authtoken.account_secret(section.own)
        ):
            return secret
    return None


def _require_application(loader: _Loader, program: str, path: str) -> None:
    try:
        loader.find_config_section(loadwsgi.APP, name=program)
    except LookupError:
        raise exception.ConfigError(
            f"Error trying to load config {path}: "
            f"there is no section [pipeline:{program}] or [app:{program}]"
        ) from None


def decide_auth_mode(parser: configparser.ConfigParser, program: str) -> str:
    """Return how callers are authenticated: by `auth_mode` in the file, otherwise by the pipeline.

    Raises ConfigError for a mode that contradicts the pipeline, and like `infer_auth_mode`.
    """
    # SECURITY: an empty value is unset; it must not mean "everybody is an administrator".
    said = parser.defaults().get("auth_mode", "").strip()
    plain = parser.has_option(f"pipeline:{program}", "pipeline")
    for name in parser.get(f"pipeline:{program}", "pipeline").split() if plain else ():
        own = parser._sections.get(f"filter:{name}", {})  # type: ignore[attr-defined]  # undocumented
        if _factory(parser, f"filter:{name}") in CONTEXT_FACTORIES:
            said = own.get("auth_mode", "").strip() or said
    if not said:
        return infer_auth_mode(parser, program)
    implied = infer_auth_mode(parser, program) if plain else said
    if said == "noauth" and implied == "keystone":
        # SECURITY: whoever has any token would be an administrator.
        raise exception.ConfigError(
            f"auth_mode is noauth, but the pipeline of {program} has a token filter: remove one "
            "of them"
        )
    if said == "keystone" and implied == "noauth":
        raise exception.ConfigError(
            f"auth_mode is keystone, but the pipeline of {program} has no token filter before "
            "the context filter; if a proxy authenticates callers, set auth_mode = "
            "trusted-headers"
        )
    return said


def infer_auth_mode(parser: configparser.ConfigParser, program: str) -> str:
    """Return how callers are authenticated, judging by the pipeline of `program`.

    `keystone` if the pipeline has a possible token filter before the filter that makes the
    context, otherwise `noauth`. Raises ConfigError for an application that is not a plain
    pipeline: its file must set auth_mode.

    SECURITY: a filter of unknown origin counts as a token filter. If it is not one, every request
    is refused until the operator sets auth_mode; otherwise everybody would be an administrator.
    """
    section = f"pipeline:{program}"
    if not parser.has_option(section, "pipeline"):
        if parser.has_section(f"app:{program}") and not parser.has_option(
            f"app:{program}", "filter-with"
        ):
            return "noauth"
        raise exception.ConfigError(
            f"Set auth_mode: {program} is not a plain pipeline, so it does not show how callers "
            "are authenticated"
        )
    for name in parser.get(section, "pipeline").split()[:-1]:
        factory = _factory(parser, f"filter:{name}")
        if factory in CONTEXT_FACTORIES:
            return "noauth"
        if not _is_harmless(factory) or _AUTH_WORDS.search(name):
            LOG.info("Filter %s is treated as a token filter: auth_mode is keystone", name)
            return "keystone"
    return "noauth"


def _factory(parser: configparser.ConfigParser, section: str) -> str:
    kinds = ("filter_factory", "filter_app_factory", "app_factory", "composite_factory")
    for key in (*(f"paste.{kind}" for kind in kinds), "use"):
        if parser.has_option(section, key):
            return parser.get(section, key).removeprefix("call:").strip()
    return ""


def _is_harmless(factory: str) -> bool:
    """Return whether a filter is from a package whose filters do not authenticate."""
    package = factory.removeprefix("egg:").partition(".")[0].partition("#")[0].lower()
    return package in _HARMLESS and not _AUTH_WORDS.search(factory)
