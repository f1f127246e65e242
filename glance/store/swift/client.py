"""Requests to Swift with python-swiftclient: sign-in, retries, translation of errors.

The driver creates one `SwiftClient` per operation. Everything that it raises is a store error of
`glance.common.exception`, or what the reader of an upload raised. This is the only module that
uses swiftclient; it is imported when the store is first used, because the library and its
dependencies take 30 MB and a third of a second.

SECURITY: the `repr` of accounts shows no keys, and the loggers of the libraries, which would write
parts of tokens and keys to a debug log, are kept at WARNING.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import logging
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
import swiftclient
import urllib3
from swiftclient import client as swift

from glance.common import config, exception
from glance.http import ranges
from glance.streaming import retry

try:
    from keystoneauth1.exceptions import ClientException as IdentityError
    from keystoneauth1.exceptions import ConnectFailure, HttpServerError
except ImportError:
    # Without the library only version 1 is supported, and these are never raised.
    class IdentityError(Exception):  # type: ignore[no-redef]  # the name of the other branch
        pass

    class ConnectFailure(IdentityError):  # type: ignore[no-redef]  # the name of the other branch
        pass

    class HttpServerError(IdentityError):  # type: ignore[no-redef]  # the name of the other branch
        pass


LOG = logging.getLogger(__name__)

#: Between tries of a request; how often, is in the settings.
BACKOFF = retry.Backoff(1.0, 64.0, jitter=0)
CHUNK = 256 * 1024

_BROKEN = (OSError, requests.RequestException, urllib3.exceptions.HTTPError)
_TRANSIENT = frozenset({408, 429, 498, 499})
_FULL = frozenset({413, 507})

for _name in ("swiftclient", "keystoneclient", "keystoneauth", "urllib3", "requests"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclasses.dataclass(frozen=True, repr=False)
class Account:
    """An account and where to sign in. `user` may be `project:user`; `version` is 1, 2 or 3."""

    auth_url: str
    user: str
    key: str
    version: str

    def __repr__(self) -> str:
        return f"<Account {self.auth_url} v{self.version}>"


#: Account -> storage URL and token, shared by the operations of a process.
Tokens = dict[Account, tuple[str, str]]


class _Refused(Exception):
    """Nothing listens at the address; the library knows no such error, and so does not retry."""


class _Adapter(requests.adapters.HTTPAdapter):
    """Sends bodies in pieces of `CHUNK` bytes.

    PERF: each of the library's pieces of 16 KiB would cost a switch to the greenthread that has
    the data, and back.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, blocksize=CHUNK)


class _Connection(swiftclient.Connection):  # type: ignore[misc]  # it ships no hints
    """A connection that shares tokens and can use the provider's internal network.

    If nothing listens where it connects to, it raises `_Refused` at once, unless it is `patient`
    or has had a response of Swift before: only such a Swift is likely to be restarting.

    NOTE: overriding the sign-in is the only way that also covers the one after a 401.
    """

    def __init__(
        self, account: Account, conf: config.Conf, tokens: Tokens, retries: int, patient: bool
    ):
        project, colon, user = account.user.partition(":")
        options: dict[str, str] = {}
        if account.version == "2" and colon:
            options["tenant_name"] = project
        if account.version == "3":
            options |= {
                "project_name": project if colon else "",
                "user_domain_id": conf.swift_store_user_domain_id,
                "project_domain_id": conf.swift_store_project_domain_id,
            }
        options["service_type"] = conf.swift_store_service_type
        options["endpoint_type"] = conf.swift_store_endpoint_type
        if conf.swift_store_region:
            options["region_name"] = conf.swift_store_region
        super().__init__(
            account.auth_url,
            account.user if account.version == "1" or not colon else user,
            account.key,
            retries=retries,
            starting_backoff=BACKOFF.first,
            max_backoff=BACKOFF.longest,
            os_options=options,
            auth_version=account.version,
            cacert=conf.swift_store_cacert,
            insecure=conf.swift_store_insecure,
            timeout=conf.swift_store_timeout,
        )
        self._account, self._tokens = account, tokens
        self._patient = patient
        self._internal = conf.swift_enable_snet
        if account in tokens:
            self.url, self.token = tokens[account]

    def http_connection(self, url: str | None = None) -> Any:
        parsed, connection = super().http_connection(url)
        for scheme in ("http://", "https://"):
            connection.request_session.mount(scheme, _Adapter())
        return parsed, connection

    def get_auth(self) -> tuple[str, str]:
        try:
            url, token = super().get_auth()
        except (ConnectFailure, HttpServerError) as err:
            self._give_up_if_refused(err)
            # The library retries after what it considers a failure of Swift itself.
            raise swift.ClientException("identity service", http_status=503) from err
        except _BROKEN as err:
            self._give_up_if_refused(err)
            raise
        if not url or not token:
            raise swift.ClientException("the identity service named no storage URL")
        if self._internal:
            parts = urllib.parse.urlsplit(url)
            url = parts._replace(netloc="snet-" + parts.netloc).geturl()
        self.url, self.token = url, token
        self._tokens[self._account] = url, token
        return url, token

    def _give_up_if_refused(self, err: Exception) -> None:
        cause = _innermost(err)
        if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED and not self._patient:
            raise _Refused() from cause

    def _retry(self, reset: Any, request: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def tried(*args: Any, **kwargs: Any) -> Any:
            try:
                result = request(*args, **kwargs)
            except swift.ClientException as err:
                self._patient = self._patient or err.http_status is not None
                raise
            except _BROKEN as err:
                self._give_up_if_refused(err)
                raise
            self._patient = True
            return result

        return super()._retry(reset, tried, *args, **kwargs)

    def delete_manifest(self, container: str, name: str) -> bytes:
        """Delete a static manifest with its segments; return the report, which is JSON.

        `delete_object` would discard the report.
        """
        result: bytes = self._retry(None, _delete_manifest, container, name)
        return result


def _delete_manifest(
    url: str, token: str, container: str, name: str, http_conn: Any, service_token: str | None
) -> bytes:
    parsed, conn = http_conn
    path = "/".join((parsed.path, swift.quote(container), swift.quote(name)))
    headers = {"X-Auth-Token": token, "Accept": "application/json"}
    conn.request("DELETE", path + "?multipart-manifest=delete", "", headers)
    response = conn.getresponse()
    report: bytes = response.read()
    if not 200 <= response.status < 300:
        raise swift.ClientException.from_response(response, "Object DELETE failed", report)
    return report


@dataclasses.dataclass
class SwiftResponse:
    """A response whose body is unread. `read` raises BackendUnavailable."""

    status: int
    headers: Mapping[str, str]
    _response: Any

    def read(self, size: int = CHUNK) -> bytes:
        with translated():
            data: bytes = self._response.read(size)
            return data

    def close(self) -> None:
        self._response.close()


class SwiftClient:
    """An account in Swift, for one operation. The caller closes it.

    `retries` is how often a request is sent again after a transient failure. A refused connection
    is one only if `patient`, or after a response to an earlier request.
    """

    def __init__(
        self,
        account: Account,
        conf: config.Conf,
        tokens: Tokens,
        retries: int,
        *,
        patient: bool = False,
    ):
        self._connection = _Connection(account, conf, tokens, retries, patient)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> SwiftClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def retries(self) -> retry.Retries:
        """Return a count of failures that allows as many tries as the settings do."""
        return retry.Retries(dataclasses.replace(BACKOFF, retries=self._connection.retries))

    def capabilities(self) -> dict[str, Any]:
        """Return the `/info` document of the cluster. Raises the errors of `translated`."""
        with translated():
            if not self._connection.url:
                self._connection.get_auth()
            if not self._connection.http_conn:
                self._connection.http_conn = self._connection.http_connection()
            found: dict[str, Any] = self._connection.get_capabilities()
            return found

    # -- containers ------------------------------------------------------------------------------

    def head_container(self, container: str) -> Mapping[str, str]:
        with translated():
            headers: Mapping[str, str] = self._connection.head_container(container)
            return headers

    def put_container(self, container: str) -> None:
        with translated(writing=True):
            self._connection.put_container(container)

    def names(self, container: str, prefix: str = "") -> Iterator[dict[str, Any]]:
        """Yield the listing's entry of each object, page by page, sorted by name."""
        marker = ""
        while True:
            with translated():
                _, page = self._connection.get_container(container, marker=marker, prefix=prefix)
            if not page:
                return
            yield from page
            marker = page[-1]["name"]

    # -- objects ---------------------------------------------------------------------------------

    def head(self, container: str, name: str) -> Mapping[str, str]:
        """Return the headers (lower case) of an object. Raises StoreObjectNotFound."""
        with translated():
            headers: Mapping[str, str] = self._connection.head_object(container, name)
            return headers

    def get(self, container: str, name: str, headers: Mapping[str, str]) -> SwiftResponse:
        """Begin to read an object. RangeNotSatisfiable has size 0 if Swift did not report it."""
        response: dict[str, Any] = {}
        with translated():
            found, data = self._connection.get_object(
                container,
                name,
                resp_chunk_size=CHUNK,
                headers=dict(headers),
                response_dict=response,
            )
        # NOTE: not the library's body, which resumes by itself, and whole objects only.
        return SwiftResponse(response["status"], found, data.resp)

    def put(
        self,
        container: str,
        name: str,
        contents: Any,
        *,
        length: int | None = None,
        headers: Mapping[str, str],
        query: str | None = None,
    ) -> str:
        """Write an object that does not exist yet and return its ETag.

        `contents` is bytes, or a reader of `length` bytes, which can be retried if it can seek;
        with a length of None everything is sent. Raises StoreObjectExists.
        """
        sent = {
            "Content-Type": "application/octet-stream",
            "If-None-Match": "*",
            **headers,
        }
        if isinstance(contents, bytes) and contents:
            # NOTE: the library does not retry bytes, unlike text.
            contents = io.BytesIO(contents)
        with translated(writing=True):
            etag: str = self._connection.put_object(
                container,
                name,
                contents,
                content_length=length,
                chunk_size=CHUNK if contents else None,
                headers=sent,
                query_string=query,
            )
        return etag

    def delete(self, container: str, name: str) -> None:
        """Delete one object. Raises StoreObjectNotFound."""
        with translated():
            self._connection.delete_object(container, name)

    def delete_with_segments(self, container: str, name: str) -> None:
        """Delete a static manifest and its segments. BackendUnavailable if any of them stays."""
        with translated():
            report = json.loads(self._connection.delete_manifest(container, name))
        errors = report.get("Errors")
        if errors or not str(report.get("Response Status", "")).startswith(("200", "404")):
            LOG.warning("Swift could not delete %d segments of an image", len(errors or ()))
            raise exception.BackendUnavailable()


@contextlib.contextmanager
def translated(writing: bool = False) -> Iterator[None]:
    """Turn the errors of the libraries into store errors."""
    try:
        yield
    except swift.ClientException as err:
        # SECURITY: a log may show the chained error, which must not hold a location.
        err.http_scheme = err.http_host = err.http_port = err.http_path = err.http_query = ""
        err.http_response_content = ""
        error = _translate(err, writing)
        if isinstance(error, exception.StoreError) and err.http_status is not None:
            error.because(f"status {err.http_status}")
        raise error from err
    except _Refused as err:
        raise exception.BackendUnavailable() from err.__cause__
    except IdentityError as err:
        LOG.error("The identity service rejects the Swift store: %s", type(err).__name__)
        raise exception.BackendUnavailable() from err
    except (*_BROKEN, json.JSONDecodeError, UnicodeError) as err:
        raise exception.BackendUnavailable() from _innermost(err)


def _innermost(err: BaseException) -> BaseException:
    """Return the root cause of a failure; the texts of the errors above it quote URLs."""
    while (cause := err.__cause__ or err.__context__) is not None:
        err = cause
    if isinstance(err, requests.RequestException | urllib3.exceptions.HTTPError):
        return ConnectionError(type(err).__name__)
    return err


def _translate(err: swift.ClientException, writing: bool) -> exception.Error:
    status = err.http_status
    if status is None:
        if "reset contents" not in err.msg:
            # Texts of the library about the sign-in; they quote no address and no secret.
            LOG.error("The Swift store cannot authenticate: %s", err.msg)
        return exception.BackendUnavailable()
    if status == 401:
        LOG.error("Swift refuses the credentials of the Swift store")
        return exception.BackendUnavailable()
    if status == 404:
        return exception.StorageWriteDenied() if writing else exception.StoreObjectNotFound()
    if status == 403:
        return exception.StorageWriteDenied() if writing else exception.StoreForbidden()
    if writing and status in (409, 412):
        return exception.StoreObjectExists()
    if writing and status == 422:
        return exception.BackendCorrupt()
    if status in _FULL and writing:
        return exception.StorageFull()
    if status == 416:
        header = (err.http_response_headers or {}).get("content-range")
        return exception.RangeNotSatisfiable(ranges.parse_unsatisfied(header) or 0)
    if not (500 <= status < 600 or status in _TRANSIENT):
        LOG.error("Swift returned the unexpected status %s", status)
    return exception.BackendUnavailable()
