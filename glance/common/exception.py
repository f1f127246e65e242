"""Every error that glance raises on purpose, for servers and clients alike.

Domain code raises these classes and knows nothing of HTTP: `glance.common.httperror` holds the one
table that pairs them with status codes; servers map errors to statuses, clients the reverse.

The tree (indentation is inheritance)::

    Error
        ApiError  AuthorizationFailure  ClientConnectionError  DatabaseMigrationError
        MissingArgumentError  NotEmpty  BadInputError  RedirectException
        MultipleChoices  UnexpectedStatus  ConfigError  WrongService (a ClientConnectionError)
        Invalid                       the caller's data is wrong
            BadRequest  ImageSizeMismatch  ChecksumMismatch  UploadTruncated  NotBytes
            ImageRefused
        NotAuthorized                 the caller is not authenticated
            Forbidden                 authenticated, but refused
                ReadOnly  ImageProtected
        NotFound
            ImageNotFound  MethodUnknown
        Duplicate
            Conflict                  the resource is in the wrong state
        LimitExceeded
            ImageSizeLimitExceeded  QuotaExceeded
        ImageDeleted  PreconditionFailed  RangeNotSatisfiable  MethodNotAllowed
        NotImplementedMethod  UriTooLong  HeadersTooLarge  VersionUnknown  UnsupportedCoding
        ServerError
        ServiceUnavailable
            RegistryUnavailable
        GlanceException               the message is a %-template for keyword arguments
            InvalidContentType  InvalidNotifierStrategy
            StoreError                every error of a store driver
                BackendException  StoreForbidden ...

A message names the object and the next step. It never holds a credential, a location URI, a path
of this host, or SQL.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Error(Exception):
    """Base of every error of glance.

    `status` and `body` are set when the error was made from an HTTP response (client side): the
    status code and the response's text. `is_repeated` then says that the request was sent twice,
    because the response to the first one was lost: it may be the first that had the effect.
    `recorded_id` is the id of the image whose record the failed request has left, if the server
    said so.
    `is_logged` says that the operator has been told, and no other line repeats it.
    """

    status: int | None = None
    body: str | None = None
    is_repeated: bool = False
    recorded_id: str | None = None
    is_logged: bool = False

    def __init__(self, message: str | None = None):
        super().__init__(message)
        self.message = message


class ApiError(Error):
    """An error with a code of the service; its text is `code: message`."""

    def __init__(self, message: str = "Unknown", code: str = "Unknown"):
        super().__init__(f"{code}: {message}")
        self.message = message
        self.code = code


class AuthorizationFailure(Error):
    """The response of the identity service has no usable token."""


class ClientConnectionError(Error):
    """The connection to the server failed, or broke before the response was complete."""


class WrongService(ClientConnectionError):
    """Another service than the one that the client is for has responded, and said so."""


class DatabaseMigrationError(Error):
    """The database schema cannot be migrated to the requested version."""


class MissingArgumentError(Error):
    """A required argument is missing."""


class NotEmpty(Error):
    """The container is not empty."""


class BadInputError(Error):
    """A command-line argument or the content of a file is not valid."""


class ProcessExecutionError(IOError):
    """A child process failed."""

    def __init__(
        self,
        stdout: str | None = None,
        stderr: str | None = None,
        exit_code: int | str | None = None,
        cmd: str | None = None,
        description: str | None = None,
    ):
        self.stdout, self.stderr, self.cmd = stdout, stderr, cmd
        self.exit_code = "-" if exit_code is None else exit_code
        self.description = description or "Unexpected error while running command."
        super().__init__(
            f"{self.description}\nCommand: {cmd}\nExit code: {self.exit_code}\n"
            f"Stdout: {stdout!r}\nStderr: {stderr!r}"
        )


class RedirectException(Error):
    """The server redirects to another URL, `url`."""

    def __init__(self, url: str):
        super().__init__(f"Redirected to {url}")
        self.url = url


class MultipleChoices(Error):
    """The server returned a list of the API versions that it supports (300)."""


class UnexpectedStatus(Error):
    """The server returned a status that the API does not define."""


class ConfigError(Error):
    """The configuration is not valid. `problems` has one sentence for each problem."""

    def __init__(self, problems: list[str] | str):
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


# -- the caller's data ---------------------------------------------------------------------------


class Invalid(Error):
    """The caller's data is not valid; the message says what is wrong and how to correct it."""


class BadRequest(Invalid):
    """The server refused the request; its text says why (client side of 400)."""


class NotBytes(Invalid, TypeError):
    """What was passed as image data does not return bytes."""


class UploadTruncated(Invalid):
    """Fewer bytes arrived than were announced, or the request body was interrupted."""


class ImageSizeMismatch(Invalid):
    """The size of the image differs from the size that the caller declared."""


class ChecksumMismatch(Invalid):
    """The MD5 of the image differs from the MD5 that the caller declared."""


class ImageRefused(Invalid):
    """The data of the image is in another format than declared, or is not safe to open."""


class UnsupportedCoding(Error):
    """The body of a request has a content coding, such as gzip; the server takes none."""

    def __init__(self) -> None:
        super().__init__(
            "The body has a Content-Encoding, which this server does not decode; send the data "
            "itself, without that header"
        )


class UnsupportedMediaType(Error):
    """The body of a request is of a media type that the resource does not take.

    `patches` are the types that it takes for PATCH, if that was the method (RFC 5789 §3.1).
    """

    def __init__(self, message: str = "", patches: tuple[str, ...] = ()):
        super().__init__(message)
        self.patches = patches


class UriTooLong(Error):
    """The path and query of a request are too long."""


class HeadersTooLarge(Error):
    """A header, or the header block, is longer than the server accepts."""


# -- authentication and permissions --------------------------------------------------------------


class NotAuthorized(Error):
    """The caller is not authenticated: the token is missing or not valid."""


class Forbidden(NotAuthorized):
    """The caller is authenticated, but is not allowed to do this."""


class ReadOnly(Forbidden):
    """Anonymous callers may only read."""


class ImageProtected(Forbidden):
    """The image is protected from deletion."""


# -- existence and state -------------------------------------------------------------------------


class NotFound(Error):
    """The resource does not exist, or the caller may not see it."""


class ImageNotFound(NotFound):
    """No image with this id is visible to the caller."""

    def __init__(self, image_id: object):
        super().__init__(f"No image with ID {image_id} was found")


class MethodUnknown(NotFound):
    """No resource has this path."""


class Misdirected(Error):
    """The request was sent to another service than the one that it is meant for (421)."""


class Duplicate(Error):
    """The resource already exists."""


class Conflict(Duplicate):
    """The state of the resource does not allow this."""


class Gone(Error):
    """The data of a deleted image has been removed, and nothing can bring it back."""


class ImageDeleted(Error):
    """The image was deleted while its data was being uploaded."""


class PreconditionFailed(Error):
    """A condition of the request does not hold for the resource; `header` is the one that has it.

    RFC 9110 §13.1 has the headers.
    """

    def __init__(self, header: str):
        super().__init__(
            f"The resource is not in the state that {header} names; read it again, and then decide"
        )
        self.header = header


class RangeNotSatisfiable(Error):
    """The requested range is outside the image; `size` is the image's size in bytes."""

    def __init__(self, size: int):
        super().__init__(f"The range is outside the image, which has {size} bytes")
        self.size = size


class MethodNotAllowed(Error):
    """The resource does not support this method; `allow` lists those that it supports."""

    def __init__(self, allow: list[str]):
        super().__init__(
            f"This resource does not support the method; use one of: {', '.join(allow)}"
        )
        self.allow = allow


class NotImplementedMethod(Error):
    """No resource of this service supports the method."""


class VersionUnknown(Error):
    """The request names an API version that the server does not support."""


# -- limits and failures -------------------------------------------------------------------------


class LimitExceeded(Error):
    """The request would exceed a quota or a size limit."""


class ImageSizeLimitExceeded(LimitExceeded):
    """The image is larger than image_size_cap."""


class QuotaExceeded(LimitExceeded):
    """The request would exceed a quota per image or per owner."""


class TooManyRequests(LimitExceeded):
    """So much of this kind is being done that the request has to wait; try again later."""


class ServerError(Error):
    """The server failed (500)."""


class ServiceUnavailable(Error):
    """The service, or one that it needs, is temporarily unavailable; try again later."""


class RegistryUnavailable(ServiceUnavailable):
    """The registry cannot be reached, or returned no usable response."""


class CacheUnavailable(ServiceUnavailable):
    """The image cache or its index is temporarily unavailable; no download fails because of it."""


class NoConverter(Error):
    """No converter runs that could do a conversion; try again later."""


class GlanceException(Error):
    """Error whose text is the class attribute `message`, formatted with keyword arguments.

    If a key is missing, the text is the bare template, so that raising never fails.
    """

    message: str | None = "An unknown exception occurred"

    def __init__(self, message: str | None = None, **kwargs: Any):
        template = message or type(self).message or ""
        try:
            text = template % kwargs if kwargs else template
        except (KeyError, TypeError, ValueError):
            text = template
        super().__init__(text)
        for name, value in kwargs.items():
            setattr(self, name, value)


class InvalidContentType(GlanceException, Invalid):
    message = "Invalid content type %(content_type)s"


class InvalidNotifierStrategy(GlanceException):
    message = "'%(strategy)s' is not an available notifier strategy."


# -- stores --------------------------------------------------------------------------------------


class StoreError(GlanceException):
    """Base of all store errors. Their texts are fixed, without secrets; causes are chained.

    `store` is the name of the store that it is about, such as "swift"; None if it is about none.
    """

    message = "The image store failed."
    #: The text that takes the place of `message` once the store is known; None leaves that alone.
    named: ClassVar[str | None] = "The %(store)s store failed."

    store: str | None = None
    #: What failed, for logs: a status or the kind of a fault, without paths and credentials.
    detail: str | None = None
    #: Name of the driver's method that raised it, such as "stage"; None if none did.
    during: str | None = None

    def because(self, detail: str) -> Self:
        """Add what a log is to say of the failure, and return the error itself."""
        self.detail = detail
        return self

    def of(self, store: str | None) -> Self:
        """Name the store in the text, unless that has been done, and return the error itself.

        `glance.store.base` calls it for whatever a driver raises.
        """
        if store is None or self.store is not None:
            return self
        self.store = store
        if self.named is None:
            return self
        if self.message == type(self).message:
            self.message = self.named % {"store": store}
        elif f"{store} store" not in str(self.message):
            self.message = f"{self.message} ({store} store)"
        self.args = (self.message,)
        return self


class BackendException(StoreError):
    """The driver cannot use the response of the backend."""

    message = "The image store's backend failed."
    named: ClassVar[str | None] = "The backend of the %(store)s store failed."


class UnsupportedBackend(BackendException):
    message = "No store of this server can handle this location."
    named = None


class StoreObjectNotFound(StoreError, NotFound):
    message = "The image's data is missing from the store."
    named = "The image's data is missing from the %(store)s store."


class StoreObjectExists(StoreError, Duplicate):
    message = "The store already holds data for this image."
    named = "The %(store)s store already holds data for this image."


class StoreForbidden(StoreError, ServiceUnavailable):
    """The backend refuses this service. The caller, who may read the image, is not refused."""

    message = "The store refused access to the image's data."
    named = "The %(store)s store refused access to the image's data."


class UnknownScheme(StoreError, Invalid):
    """The URI or store name has a scheme that no store of this server handles."""

    message = "Unknown scheme '%(scheme)s' found in URI"
    named = None

    def __init__(self, scheme: str | None = None):
        super().__init__(scheme=scheme)


class BadStoreUri(StoreError, Invalid):
    """The location URI is not valid. The message gives the reason, never the URI."""

    message = "The Store URI was malformed. Reason: %(reason)s"
    named = None

    def __init__(self, uri: str | None = None, reason: str = "it cannot be parsed"):
        # SECURITY: `uri` is accepted for old callers and dropped: it may hold credentials.
        super().__init__(reason=reason)


class LocationRefused(BadStoreUri):
    """The location URI is valid, but this server does not register it."""

    message = "The location was refused: %(reason)s"


class BadStoreConfiguration(StoreError):
    message = "Store %(store_name)s could not be configured correctly. Reason: %(reason)s"
    named = None


class StoreAddDisabled(StoreError):
    message = "Configuration for store failed. Adding images to this store is disabled."
    named = "Images cannot be added to the %(store)s store of this server"


class StoreDeleteNotSupported(StoreError):
    message = "Deleting images from this store is not supported."
    named = "Deleting images from the %(store)s store is not supported."


class LocationLoop(StoreError):
    """The location of an image leads, possibly through other services, back to the image."""

    message = (
        "The location of the image leads back to the image itself, so it has no data; delete it, "
        "and register the address of the data"
    )
    named = None


class StorageFull(StoreError, LimitExceeded):
    message = "There is not enough space left in the image store."
    named = "There is not enough space left in the %(store)s store."


class StorageWriteDenied(StoreError, ServiceUnavailable):
    message = "The image store cannot be written to at the moment."
    named = "The %(store)s store does not permit writing at the moment."


class BackendUnavailable(BackendException, ServiceUnavailable):
    message = "The image store cannot be reached at the moment."
    named: ClassVar[str | None] = "The %(store)s store cannot be reached at the moment."


#: What the operating system says when a process, or the host, may open no more files.
OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


class OutOfDescriptors(BackendUnavailable):
    """The process, or the host, may not open another file or connection at the moment."""

    message = "This server has too many files open at the moment; try again later."
    # It is the server's fault, not that of a store.
    named = None


class BackendCorrupt(BackendException, ServerError):
    message = "The image store did not keep the data intact."
    named = "The %(store)s store did not keep the data intact."


def described(err: BaseException) -> str:
    """Return an error for a log, on one line: its class, its text and what caused it.

    SECURITY: of an error that is not glance's own only the class is known to show no secret.
    """
    name = type(err).__name__
    if isinstance(err, OSError) and err.strerror:
        return f"{name}: {err.strerror}"
    if not isinstance(err, Error):
        return name
    detail = getattr(err, "detail", None)
    if not detail and err.__cause__ is not None:
        detail = f"caused by {type(err.__cause__).__name__}"
    text = f"{name}: {err} ({detail})" if detail else f"{name}: {err}"
    return " ".join(text.split())


def wrap_exception(function: Callable[P, T]) -> Callable[P, T]:
    """Pass errors of glance on and turn every other exception into a logged `Error`."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Error:
            raise
        except Exception as err:
            import logging  # PERF: the clients import this module, and most log nothing

            logging.getLogger(__name__).exception("Uncaught exception in %s", function.__name__)
            raise Error(str(err)) from err

    return wrapped
