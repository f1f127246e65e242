"""Locations: the private addresses of image data, parsed from and written as URIs.

Drivers read the parts of a `StoreLocation`; the rest of glance treats locations as opaque text and
calls `public_uri` before showing one. Every scheme's grammar is implemented here, because a
general URL splitter treats `?`, `#` and `/` inside a secret as delimiters.

SECURITY: a location may hold the credentials of a backend. `str()` and `repr()` show asterisks in
their place, and no error raised here quotes the URI.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
import urllib.parse
from collections.abc import Mapping
from typing import ClassVar

from glance.common import exception, numbers

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._-]+\Z")
HIDDEN = "***:***@"


@dataclasses.dataclass(frozen=True, repr=False)
class StoreLocation:
    """The parts of one location. `schemes` are those whose URIs `parse` understands."""

    schemes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def parse(cls, uri: str) -> StoreLocation:
        """Return the location of `uri`. Raises BadStoreUri with the reason."""
        raise NotImplementedError

    def _credentials(self) -> tuple[str, ...]:
        """Return the decoded fields before the `@`; empty if there are none."""
        return ()

    def _format(self, user: str) -> str:
        """Return the URI with `user` (empty, or ending in `@`) as its user part."""
        raise NotImplementedError

    @property
    def has_credentials(self) -> bool:
        return bool(self._credentials())

    def uri(self, secret: bool = False) -> str:
        """Return the URI: with `secret` the one to store, otherwise one with asterisks to log."""
        fields = self._credentials()
        if not fields:
            return self._format("")
        return self._format(":".join(map(_encode, fields)) + "@" if secret else HIDDEN)

    def name_in_store(self) -> str:
        """Return a name that identifies the object, whatever address and account lead to it.

        Two locations with one name may be the same object; those with two names never are.
        """
        return self.public_uri()

    def public_uri(self) -> str:
        """Return the URI without its user part, as administrators may see it."""
        return self._format("")

    def __str__(self) -> str:
        return self.uri(secret=False)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


@dataclasses.dataclass(frozen=True, repr=False)
class FileLocation(StoreLocation):
    """An absolute path of this host. It is taken literally: nothing in it is encoded."""

    schemes = ("file", "filesystem")

    path: str

    @classmethod
    def parse(cls, uri: str) -> FileLocation:
        _, rest = split_scheme(uri, cls.schemes)
        path = rest.strip()
        if not path:
            raise exception.BadStoreUri(reason="the path is missing")
        if not path.startswith("/"):
            raise exception.BadStoreUri(reason="the path must be absolute")
        if ".." in path.split("/"):
            raise exception.BadStoreUri(reason="the path must not contain '..'")
        _refuse_control_characters(path)
        return cls(path)

    def _format(self, user: str) -> str:
        return f"file://{self.path}"


@dataclasses.dataclass(frozen=True, repr=False)
class HttpLocation(StoreLocation):
    """A resource on a web server. `path` and `query` keep their encoded form.

    `port` is None if the URI has none; `user` is None if it has no credentials. `query` starts
    with its question mark, or is empty.
    """

    schemes = ("http", "https")

    scheme: str
    host: str
    port: int | None = None
    path: str = ""
    query: str = ""
    user: str | None = None
    password: str = ""

    @classmethod
    def parse(cls, uri: str) -> HttpLocation:
        scheme, rest = split_scheme(uri, cls.schemes)
        _refuse_control_characters(rest)
        rest = rest.strip().partition("#")[0]
        end = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
        authority, tail = rest[:end], rest[end:]
        credentials, at, address = authority.rpartition("@")
        host, port = _host_and_port(address)
        path, mark, query = tail.partition("?")
        user, password = None, ""
        if at:
            user, password = _user_and_secret(credentials)
        return cls(scheme, host, port, path, mark + query, user, password)

    @property
    def effective_port(self) -> int:
        return self.port or (443 if self.scheme == "https" else 80)

    @property
    def origin(self) -> tuple[str, str, int]:
        """Return the origin, which decides whether a redirect may keep the credentials."""
        return self.scheme, self.host.lower(), self.effective_port

    @property
    def origin_text(self) -> str:
        """Return the origin for a log: neither the path nor anything else that may be secret."""
        return f"{self.scheme}://{self.address}"

    @property
    def target(self) -> str:
        """Return path and query for a request line: printable ASCII only."""
        text = (self.path or "/") + self.query
        return urllib.parse.quote(text, safe="".join(map(chr, range(0x21, 0x7F))))

    @property
    def address(self) -> str:
        """Return `host[:port]` as in the URI."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def uri(self, secret: bool = False) -> str:
        text = super().uri(secret)
        # SECURITY: the query of a signed URL works like a password, so it must not be logged.
        return text if secret or not self.query else text.removesuffix(self.query) + "?***"

    def _credentials(self) -> tuple[str, ...]:
        return () if self.user is None else (self.user, self.password)

    def _format(self, user: str) -> str:
        return f"{self.scheme}://{user}{self.address}{self.path}{self.query}"


@dataclasses.dataclass(frozen=True, repr=False)
class SwiftLocation(StoreLocation):
    """An object in Swift. `auth_address` is host, port and path of the identity service.

    `user` is `account:user` or `user`, or None if the URI has no credentials.
    """

    schemes = ("swift", "swift+http", "swift+https")

    scheme: str
    auth_address: str
    container: str
    obj: str
    user: str | None = None
    key: str = ""

    @classmethod
    def parse(cls, uri: str) -> SwiftLocation:
        scheme, rest = split_scheme(uri, cls.schemes)
        _refuse_control_characters(rest)
        _refuse_second_scheme(rest, "swift+http:// or swift+https://")
        rest = rest.strip()
        # NOTE: Diablo wrote keys without encoding, so a key may have a slash before the `@`.
        at = rest.rfind("@", 0, rest.find("/") if "/" in rest else len(rest))
        at = rest.find("@") if at < 0 else at
        user, key = None, ""
        if at >= 0:
            fields = [_decode(field) for field in rest[:at].split(":")]
            if not 2 <= len(fields) <= 3:
                raise exception.BadStoreUri(
                    reason="the credentials must be user:key or account:user:key"
                )
            user, key = ":".join(fields[:-1]), fields[-1]
        address, container, obj = _container_and_object(rest[at + 1 :])
        return cls(scheme, address, container, obj, user, key)

    @property
    def auth_url(self) -> str:
        """Return the URL of the identity service; plain `swift` means HTTPS."""
        return ("http://" if self.scheme == "swift+http" else "https://") + self.auth_address

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Return host and port of the identity service."""
        host, port = _host_and_port(self.auth_address.partition("/")[0])
        return host, port or (80 if self.scheme == "swift+http" else 443)

    def name_in_store(self) -> str:
        return f"{self.container}/{self.obj}"

    def _credentials(self) -> tuple[str, ...]:
        return () if self.user is None else (*self.user.split(":", 1), self.key)

    def _format(self, user: str) -> str:
        address = _trim_address(self.auth_address)
        return f"{self.scheme}://{user}{address}/{_encode(self.container)}/{_encode(self.obj)}"


@dataclasses.dataclass(frozen=True, repr=False)
class S3Location(StoreLocation):
    """An object in S3. `service_address` is host, port and path of the service.

    `access_key` is None if the URI has no credentials.
    """

    schemes = ("s3", "s3+http", "s3+https")

    scheme: str
    service_address: str
    bucket: str
    key: str
    access_key: str | None = None
    secret_key: str = ""

    @classmethod
    def parse(cls, uri: str) -> S3Location:
        scheme, rest = split_scheme(uri, cls.schemes)
        _refuse_control_characters(rest)
        _refuse_second_scheme(rest, "s3+http:// or s3+https://")
        # NOTE: secrets of AWS have unencoded slashes but never an `@`: the first one ends them.
        credentials, at, tail = rest.strip().partition("@")
        access_key, secret_key = None, ""
        if at:
            access_key, colon, secret_key = map(_decode, credentials.partition(":"))
            if not colon or not access_key:
                raise exception.BadStoreUri(reason="the credentials must be access:secret")
        address, bucket, key = _container_and_object(tail if at else rest.strip())
        return cls(scheme, address, bucket, key, access_key, secret_key)

    @property
    def is_secure(self) -> bool:
        """Return whether HTTPS is used; plain `s3` means HTTP, unlike plain `swift`."""
        return self.scheme == "s3+https"

    def name_in_store(self) -> str:
        return f"{self.bucket}/{self.key}"

    def _credentials(self) -> tuple[str, ...]:
        return () if self.access_key is None else (self.access_key, self.secret_key)

    def _format(self, user: str) -> str:
        address = _trim_address(self.service_address)
        return f"{self.scheme}://{user}{address}/{_encode(self.bucket)}/{_encode(self.key)}"


@dataclasses.dataclass(frozen=True)
class Location:
    """The argument of drivers: the scheme, which selected the driver, and the parsed parts.

    A driver sends `trail` on in requests to servers that callers have named (see
    `glance.http.trail`).
    """

    scheme: str
    store_location: StoreLocation
    trail: tuple[str, ...] = ()

    @property
    def store_name(self) -> str:
        return self.scheme

    def uri(self, secret: bool = False) -> str:
        return self.store_location.uri(secret)

    def get_store_uri(self) -> str:
        """Return the URI to store, including credentials."""
        return self.uri(secret=True)

    def __str__(self) -> str:
        return str(self.store_location)


SCHEMES: Mapping[str, type[StoreLocation]] = {
    scheme: cls
    for cls in (FileLocation, HttpLocation, SwiftLocation, S3Location)
    for scheme in cls.schemes
}


def get_location_from_uri(
    uri: str, schemes: Mapping[str, type[StoreLocation]] = SCHEMES
) -> Location:
    """Return the location of `uri`. Raises UnknownScheme, or BadStoreUri with the reason."""
    scheme = scheme_of(uri)
    cls = schemes.get(scheme)
    if cls is None:
        raise exception.UnknownScheme(scheme)
    return Location(scheme, cls.parse(uri))


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


def scheme_of(uri: str) -> str:
    """Return the scheme before `://`, in lower case. Raises BadStoreUri if there is none."""
    scheme, sep, _ = uri.strip().partition("://")
    if scheme in SCHEMES and sep:
        return scheme
    if not sep or not _SCHEME.fullmatch(scheme):
        raise exception.BadStoreUri(reason="it must start with a scheme and ://")
    return scheme.lower()


def split_scheme(uri: str, schemes: tuple[str, ...]) -> tuple[str, str]:
    """Return scheme and rest of `uri`. Raises BadStoreUri for a scheme not in `schemes`."""
    scheme = scheme_of(uri)
    if scheme not in schemes:
        raise exception.BadStoreUri(reason=f"the scheme must be one of {', '.join(schemes)}")
    return scheme, uri.strip().partition("://")[2]


def public_uri(uri: str) -> str:
    """Return `uri` without any user part, as an administrator may see it.

    Text that matches no grammar loses everything up to its last `@`.
    """
    if uri.startswith("file:///") and len(uri) <= _SHORT:
        # PERF: it holds no secret, so that it may be remembered.
        return _public_file_uri(uri)
    return _public_uri(uri)


def _public_uri(uri: str) -> str:
    try:
        return get_location_from_uri(uri).store_location.public_uri()
    except (exception.UnknownScheme, exception.BadStoreUri):
        scheme, sep, rest = uri.partition("://")
        return f"{scheme}{sep}{rest.rpartition('@')[2]}" if sep else uri.rpartition("@")[2]


#: The longest location that is remembered.
_SHORT = 512
_public_file_uri = functools.lru_cache(maxsize=1024)(_public_uri)


# -- parts of the grammars -----------------------------------------------------------------------


def _encode(text: str) -> str:
    """Percent-encode all except the unreserved characters of RFC 3986."""
    return urllib.parse.quote(text, safe="", errors="surrogateescape")


def _decode(text: str) -> str:
    """Reverse `_encode`; a `%` without two hex digits is literal (unencoded text of Diablo)."""
    return urllib.parse.unquote(text, errors="surrogateescape")


def _user_and_secret(text: str) -> tuple[str, str]:
    fields = text.split(":")
    if len(fields) != 2 or not fields[0]:
        raise exception.BadStoreUri(
            reason="the credentials must be user:password, other colons percent-encoded"
        )
    return _decode(fields[0]), _decode(fields[1])


def _host_and_port(text: str) -> tuple[str, int | None]:
    host, bracket, tail = text.partition("]")
    if bracket:
        host += bracket
        valid = host.startswith("[") and _is_ipv6(host[1:-1]) and (not tail or tail[0] == ":")
        colon, digits = tail[:1], tail[1:]
    else:
        host, colon, digits = text.partition(":")
        valid = bool(_HOST.match(host))
    if not host:
        raise exception.BadStoreUri(reason="the host is missing")
    if not valid:
        raise exception.BadStoreUri(reason="the host is not a host name or address")
    if not colon:
        return host, None
    port = numbers.whole(digits)
    if port is None or not 0 < port < 65536:
        raise exception.BadStoreUri(reason="the port is not a number from 1 to 65535")
    return host, port


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _container_and_object(text: str) -> tuple[str, str, str]:
    """Split `address/container/object`; the address may contain slashes."""
    address, slash, obj = text.rpartition("/")
    address, second_slash, container = address.rpartition("/")
    address = address.rstrip("/")
    if not slash or not second_slash or not address or address.startswith("/"):
        raise exception.BadStoreUri(reason="it must have a service host, a container and a name")
    if not container or not obj:
        raise exception.BadStoreUri(reason="the container or the object's name is empty")
    _host_and_port(address.partition("/")[0])
    return address, _decode(container), _decode(obj)


def _trim_address(address: str) -> str:
    return address.removeprefix("http://").removeprefix("https://").strip("/")


def _refuse_control_characters(text: str) -> None:
    if _CONTROL.search(text):
        raise exception.BadStoreUri(reason="it contains control characters")


def _refuse_second_scheme(text: str, advice: str) -> None:
    if "://" in text:
        raise exception.BadStoreUri(
            reason=f"it contains a second scheme; begin it with {advice} instead"
        )
