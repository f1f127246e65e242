"""What HTTP caches may keep, and how they ask whether it still holds (RFC 9110 §8.8, RFC 9111).

Access to an image depends on the caller, whose token is in a header that HTTP caches do not know.
So each response says what a cache may do with it: by default, keep the data of an image, and ask
before each use, with the token of whoever wants it. The response to that is a 304 without data.
Errors have their `no-store` from `glance.common.httperror`.

The validators are of the data, which never changes once an image is active: a new name does not
make anybody fetch it again. Conditions are compared with them in `glance.http.conditions`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from glance.common import config, httperror
from glance.http import conditions, dates, etags, wsgi
from glance.identity.context import CallerRequest
from glance.image import filenames, types

config.options(
    "HTTP caches",
    config.Option(
        "http_cache_mode",
        default="validate",
        choices=("validate", "ttl", "off"),
        help="What HTTP caches such as Varnish and Squid may do with images: keep them and ask "
        "before each use (validate), use public ones without asking for http_cache_public_ttl "
        "(ttl), or keep nothing (off). With authentication, ttl tells this only to gateways "
        "that check access themselves.",
    ),
    config.Option(
        "http_cache_public_ttl",
        config.integer,
        86400,
        unit="seconds",
        minimum=0,
        help="How long caches may use a public image without asking, with http_cache_mode = ttl.",
    ),
    config.Option(
        "http_cache_share_private",
        config.boolean,
        False,
        help="Let shared caches keep images that are not public, too; they must ask before each "
        "use, with the token of whoever wants the image.",
    ),
    config.Option(
        "http_cache_surrogate_headers",
        config.boolean,
        True,
        help="Send X-Image-Id and Surrogate-Key with images: headers by which caches find what "
        "they are to remove.",
    ),
    config.Option(
        "http_ranges",
        config.boolean,
        True,
        help="Send a part of an image to clients that ask for one with the header Range.",
    ),
    config.Option(
        "http_ranges_max",
        config.integer,
        16,
        unit="ranges",
        minimum=1,
        help="How many ranges a request may ask for; one with more gets the whole image.",
    ),
    config.Option(
        "etag_bare_compat",
        config.boolean,
        False,
        help="Send ETag without quotes, for old clients that compare it with a checksum. HTTP "
        "caches may then ignore it.",
    ),
)

#: What the caller's identity comes from.
_TOKENS = ("Vary", "X-Auth-Token, X-Storage-Token, Authorization")

# Printable ASCII without blank and quote, which a tag may not have (RFC 9110 §8.8.3).
_TAG = re.compile(r"[!#-~]+")
#: Algorithms of `os_hash_algo` -> their names in RFC 9530 §5.
_DIGESTS = {"sha256": "sha-256", "sha512": "sha-512"}

Headers = tuple[tuple[str, str], ...]


def _cache_control(directives: str) -> tuple[str, str]:
    return "Cache-Control", directives


class CacheRules:
    """The rules of one process, by its options."""

    def __init__(self, conf: config.Conf):
        mode, ttl = conf.http_cache_mode, conf.http_cache_public_ttl
        shared: Headers = (_cache_control("public, no-cache, no-transform"),)
        private: Headers = (_cache_control("private, no-cache, no-transform"), _TOKENS)
        #: For everything that is not the data of an image, and no error.
        self.documents: Headers = (_cache_control("private, no-cache"), _TOKENS)
        self._public = shared
        self._private = shared if conf.http_cache_share_private else private
        if mode == "off":
            self.documents = self._public = self._private = (_cache_control("private, no-store"),)
        elif mode == "ttl" and conf.auth_mode in (None, "noauth"):
            lifetime = f"public, max-age=0, s-maxage={ttl}, must-revalidate, no-transform"
            self._public = (_cache_control(lifetime),)
        elif mode == "ttl":
            # RFC 9213: for those who check access themselves, and nobody else.
            self._public = (*shared, ("CDN-Cache-Control", f"max-age={ttl}"))
        self._surrogates: bool = conf.http_cache_surrogate_headers
        self._bare: bool = conf.etag_bare_compat
        self.ranges: bool = conf.http_ranges

    def image_headers(
        self, image: types.ImageRecord, current: conditions.Validators, relayed: str | None = None
    ) -> list[tuple[str, str]]:
        """Return the headers about the validators and about caches for GET and HEAD of an image.

        They are the same for 200, 206 and 304. `current` are its `validators`; without any, nobody
        may keep it. `relayed` is the text of the strong tag that foreign data has at its origin.
        """
        headers = []
        seconds = current.seconds()
        if current.tag:
            tag = current.tag if self._bare else str(etags.ETag(current.tag))
            headers.append(("ETag", tag))
            if seconds is not None:
                headers.append(("Last-Modified", dates.format_date(seconds)))
            headers.extend(self._public if image["is_public"] else self._private)
        else:
            if relayed:
                headers.append(("ETag", str(etags.ETag(relayed))))
            headers.append(httperror.NO_STORE)
        if self._surrogates:
            headers.append(("X-Image-Id", str(image["id"])))
            headers.append(("Surrogate-Key", f"image-{image['id']}"))
        return headers

    def complete(self, response: wsgi.Response) -> wsgi.Response:
        """Add what caches may do with a response that does not say so itself; return it."""
        # PERF: it is near the end.
        if not any(name == "Cache-Control" for name, _ in reversed(response.headers)):
            response.headers.extend(self.documents)
        return response


class ApiRouter(wsgi.Router[CallerRequest]):
    """Routes whose responses all say what caches may do with them.

    Their handlers find `environ`, which is more for each request, in its environ.
    """

    def __init__(
        self,
        rules: CacheRules,
        environ: Mapping[str, Any] | None = None,
        *,
        strict: bool = False,
        mount: str = "",
    ):
        super().__init__(CallerRequest, strict=strict, mount=mount)
        self._rules, self._environ = rules, dict(environ or {})

    def _dispatch(self, environ: dict[str, Any]) -> wsgi.Response:
        environ.update(self._environ)
        return self._rules.complete(super()._dispatch(environ))


def validators(image: types.ImageRecord) -> conditions.Validators:
    """Return the validators of the data of an image: its checksum, and when it became complete.

    There are none without data, and none for data of others without a checksum, of which nothing
    is known.
    """
    checksum = image.get("checksum")
    # NOTE: an old database may hold any text there.
    if image["status"] != "active" or not checksum or not _TAG.fullmatch(checksum):
        return conditions.Validators(None)
    # NOTE: registries of earlier releases do not keep the moment.
    return conditions.Validators(checksum, image.get("activated_at") or image.get("created_at"))


def record_validators(image: types.ImageRecord) -> conditions.Validators:
    """Return what the conditions of a method are compared with that changes an image.

    That is what GET shows; where it shows nothing, the time of the last change of the record.
    """
    current = validators(image)
    return current if current.tag else conditions.Validators(None, image.get("updated_at"))


def file_headers(image: types.ImageRecord) -> list[tuple[str, str]]:
    """Return the headers for those who save the data of an image: its file name, its digest.

    `Content-Disposition` is that of RFC 6266, `Repr-Digest` that of RFC 9530 §3.
    """
    name = filenames.file_name(image["id"], image.get("name"), image.get("disk_format"))
    headers = [("Content-Disposition", filenames.disposition(name))]
    record: Mapping[str, Any] = image
    digest = _repr_digest(record.get("os_hash_algo"), record.get("os_hash_value"))
    if digest is not None:
        headers.append(("Repr-Digest", digest))
    return headers


def _repr_digest(algorithm: object, value: object) -> str | None:
    name = _DIGESTS.get(str(algorithm))
    try:
        digest = bytes.fromhex(str(value)) if name else b""
    except ValueError:
        return None
    return f"{name}=:{base64.b64encode(digest).decode('ascii')}:" if digest else None
