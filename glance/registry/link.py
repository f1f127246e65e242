"""The registry as the API sees it: an object that asks it on behalf of one caller at a time.

An application makes one `RegistryLink` and hands it to whoever needs the registry: the images API
in `glance.api.ImageService`, the programs of the image cache with their service account. The
promised functions of `glance.registry` are wrappers over it. The registry's own HTTP API is spoken
by `glance.registry.client`; the server is `glance.registry.server`.

Every call takes the caller's request context first. The caller's token, and with
`send_identity_headers` the identity, go along, and no request is ever repeated with less.

Errors: the registry's own refusals keep their class and reason (`glance.common.httperror`); a
registry that cannot be reached, is slow, fails or talks nonsense is `RegistryUnavailable`.
"""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from glance.client import base as base_client
from glance.common import config, exception
from glance.http import health, latin1
from glance.http.client import connection, response
from glance.identity import authtoken
from glance.identity.context import RequestContext
from glance.image import types
from glance.registry import client
from glance.registry.conversion_calls import ConversionCalls
from glance.registry.measured_calls import measured
from glance.registry.record_calls import RecordCalls
from glance.registry.translation import TRANSLATED
from glance.streaming import hub, retry

T = TypeVar("T")

LOG = logging.getLogger(__name__)


def header_text(text: str) -> str:
    """Option type: text that reaches the other side of a connection as it is, in a header."""
    text = text.strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("use printable ASCII characters on one line")
    return text


config.options(
    "registry client",
    config.Option(
        "registry_host",
        config.host,
        default="0.0.0.0",
        help="Address of the registry. 0.0.0.0 means this host.",
    ),
    config.Option("registry_port", config.integer, 9191, minimum=1, help="Port of the registry."),
    config.Option(
        "registry_client_protocol",
        default="http",
        choices=("http", "https"),
        help="Protocol of the connections to the registry.",
    ),
    config.Option(
        "registry_client_timeout",
        config.real,
        30.0,
        minimum=0,
        unit="seconds",
        help="How long to wait for a connection to the registry, and for each part of its "
        "response, before the request fails with 503; 0 means no timeout.",
    ),
    config.Option(
        "registry_client_ca_file",
        config.path,
        help="CA certificates that the registry's certificate is verified against, in PEM "
        "format. Unset: those of the system.",
    ),
    config.Option(
        "registry_client_cert_file",
        config.path,
        help="Client certificate that this service presents to the registry, in PEM format.",
    ),
    config.Option(
        "registry_client_key_file",
        config.path,
        help="Private key of registry_client_cert_file, in PEM format.",
    ),
    config.Option(
        "registry_client_insecure",
        config.boolean,
        False,
        help="Do not verify the registry's certificate. For tests only.",
    ),
    config.Option(
        "send_identity_headers",
        config.boolean,
        False,
        help="Send the caller's user, tenant and roles to the registry, so that it need not "
        "validate the token. The registry must trust this service and no other client.",
    ),
)
config.options(
    "registry access",
    config.Option(
        "registry_shared_secret",
        header_text,
        secret=True,
        help="Secret that glance-api sends with each request to the registry. A registry that "
        "has a secret refuses requests without it. Use the same value for both.",
    ),
)

#: Errors of a registry that is away for the moment.
AWAY = (exception.ServiceUnavailable, exception.ClientConnectionError)

#: How long a health check waits for that of the registry, in seconds.
CHECK_LIMIT = health.LIMIT + 0.5
# How much of its response is of use, in bytes: a word.
_ENOUGH = 256


def _causes(err: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = err
    while cause is not None:
        yield cause
        cause = cause.__cause__


def may_be_done(err: BaseException) -> bool:
    """Return whether a call that ended with an error of `AWAY` may have been carried out.

    It was not if no connection could be made: not a byte of it was sent. Nor was it if the other
    side is no registry.
    """
    causes = list(_causes(err))
    broken = [cause for cause in causes if isinstance(cause, response.ConnectionBroken)]
    if broken:
        # NOTE: of two, the second is about a request that was sent before.
        return len(broken) > 1 or not isinstance(broken[0], response.NotConnected)
    refused = (ConnectionRefusedError, exception.Misdirected)
    return not any(isinstance(cause, refused) for cause in causes)


class OnceCall:
    """A call to the registry that takes effect once, and is repeated if its response is lost.

    The registry knows a repeated call by its `attempt`. `undecided` is whether a call was sent
    whose outcome is unknown.
    """

    def __init__(self, attempt: str | None = None) -> None:
        self.attempt = attempt or secrets.token_hex(16)
        self.undecided = False

    def make(self, call: Callable[[], T], backoff: retry.Backoff) -> T:
        """Return what `call` returns.

        It is called again after a response that was lost, and after a 503, within the bounds of
        `backoff`; not after a time-out, because the caller has waited long enough, and not if the
        registry could not be reached to begin with. Raises what the last call raised.
        """

        def attempt() -> T:
            try:
                result = call()
            except AWAY as err:
                self.undecided = self.undecided or may_be_done(err)
                raise
            except exception.NotAuthorized:
                # The registry has not looked at the record.
                raise
            except exception.Error:
                self.undecided = False
                raise
            except BaseException:
                # Killed while it waited.
                self.undecided = True
                raise
            self.undecided = False
            return result

        return retry.retry(
            attempt,
            backoff,
            on=AWAY,
            retryable=lambda err: self.undecided and _may_pass(err),
            report=lambda err: LOG.warning("The registry sent no response; the call is repeated"),
        )


def _may_pass(err: Exception) -> bool:
    """Return whether an error of `AWAY` may be gone soon: a lost connection, or a 503."""
    for cause in _causes(err):
        if isinstance(cause, response.ConnectionTimedOut | response.BadResponse):
            return False
        if isinstance(cause, response.ConnectionBroken):
            return True
        if isinstance(cause, exception.Error) and cause.status is not None:
            return cause.status == 503
    return False


@measured
class RegistryLink(RecordCalls, ConversionCalls):
    """One registry, and the connections to it that all callers of a process share.

    `RecordCalls` has the calls of version 2 of the Images API, `ConversionCalls` those about
    conversions.

    Nothing is connected, and no certificate read, before the first call. Safe to use from many
    threads at once. `close` lets the kept connections go; the link stays usable.
    """

    def __init__(self, conf: Mapping[str, Any]):
        """Take the address and the manners from `conf`, a `Conf` or a plain mapping."""
        # PERF: read once; reading the options costs 8 us per call.
        settings = conf if isinstance(conf, config.Conf) else config.Conf(conf)
        host = settings["registry_host"]
        if host in ("0.0.0.0", "::", ""):
            host = "::1" if host == "::" else "127.0.0.1"
        self.host, self.port = host, int(settings["registry_port"])
        self.use_ssl = settings["registry_client_protocol"] == "https"
        self._timeout: float | None = settings["registry_client_timeout"] or None
        self._tls = connection.TLS(
            settings["registry_client_key_file"],
            settings["registry_client_cert_file"],
            settings["registry_client_ca_file"],
            settings["registry_client_insecure"],
        )
        self._send_identity: bool = settings["send_identity_headers"]
        # SECURITY: without one, the registry knows this service by its account (registry.trust).
        self._secret: str | None = settings["registry_shared_secret"] or settings.get(
            authtoken.ACCOUNT_SECRET
        )

    @functools.cached_property
    def _pool(self) -> base_client.ConnectionPool:
        return self._new_pool(self._timeout)

    @functools.cached_property
    def _checks(self) -> base_client.ConnectionPool:
        return self._new_pool(CHECK_LIMIT)

    def _new_pool(self, timeout: float | None) -> base_client.ConnectionPool:
        return base_client.ConnectionPool(
            self.host,
            self.port,
            context=self._tls.context() if self.use_ssl else None,
            connect_timeout=timeout,
            read_timeout=timeout,
            adapt=hub.ready_socket,
        )

    def close(self) -> None:
        """Close the connections that are kept for the next call."""
        self._pool.close()
        self._checks.close()

    def missing(self) -> str | None:
        """Return what `/healthcheck/ready` of the registry says is missing, None if nothing is.

        It is `health.DATABASE` or `health.REGISTRY`. A registry of a release without health checks
        has no such path, and counts as ready if it responds. Raises ClientConnectionError if it
        does not, and BadInputError for TLS files that cannot be used.
        """
        headers = {"accept": "text/plain"}
        with self._checks.request("GET", health.READY, headers) as response:
            if response.status < 500:
                response.read(_ENOUGH)
                return None
            word = response.read(_ENOUGH).decode("latin-1").strip()
            return word if word == health.DATABASE else health.REGISTRY

    def client_for(self, context: RequestContext) -> client.RegistryClient:
        """Return a client that speaks for the caller of `context`; cheap, over the shared pool.

        Raises BadInputError for TLS files that cannot be used.
        """
        headers: dict[str, str] = {}
        if self._secret:
            headers[client.SHARED_SECRET] = self._secret
        if context.request_id:
            headers["x-openstack-request-id"] = context.request_id
        if self._send_identity and not context.read_only:
            headers["x-identity-status"] = "Confirmed"
            for name, value in (("x-user-id", context.user), ("x-tenant-id", context.tenant)):
                if value:
                    headers[name] = latin1.encode(value)
            if context.roles:
                headers["x-roles"] = latin1.encode(",".join(context.roles))
        return client.RegistryClient(
            self.host, self.port, self.use_ssl, context.auth_tok, pool=self._pool, headers=headers
        )

    # -- images ----------------------------------------------------------------------------------

    def get_images_list(self, context: RequestContext, **kwargs: Any) -> list[types.BriefImage]:
        """Return a page of short records; `kwargs`: filters, marker, limit, sort_key, sort_dir."""
        with TRANSLATED:
            return self.client_for(context).get_images(**kwargs)

    def get_images_detail(self, context: RequestContext, **kwargs: Any) -> list[types.ImageRecord]:
        """Return a page of full records, `location` included; arguments as `get_images_list`."""
        with TRANSLATED:
            return self.client_for(context).get_images_detailed(**kwargs)

    def get_public_images(self, context: RequestContext, *, detail: bool, **kwargs: Any) -> bytes:
        """Return a page of short or full records as the public API's JSON document.

        It holds no location.
        """
        with TRANSLATED:
            return self.client_for(context).get_public_images(detail, **kwargs)

    def get_image_metadata(self, context: RequestContext, image_id: object) -> types.ImageRecord:
        """Return the full record of a visible image; NotFound otherwise."""
        with TRANSLATED:
            return self.client_for(context).get_image(image_id)

    def add_image_metadata(
        self,
        context: RequestContext,
        image_meta: Mapping[str, Any],
        attempt: str | None = None,
        is_repeated: bool = False,
    ) -> types.ImageRecord:
        """Create a record and return it; Duplicate for a taken id, Invalid for bad values.

        With an `attempt` the call may be repeated: one that `is_repeated` returns the record that
        the attempt has created already.
        """
        _log_meta("Adding image", image_meta)
        with TRANSLATED:
            record = self.client_for(context).add_image(image_meta, attempt, is_repeated)
        _log_meta("Returned image", record)
        return record

    def update_image_metadata(
        self,
        context: RequestContext,
        image_id: object,
        image_meta: Mapping[str, Any],
        purge_props: bool = False,
        from_state: str | None = None,
        attempt: str | None = None,
    ) -> types.ImageRecord:
        """Change a record and return it.

        `purge_props` removes properties that are not given; `from_state` makes the change only if
        the image has that status (Duplicate otherwise, unless the same `attempt` has made the
        change). NotFound if the caller may not change it.
        """
        _log_meta("Updating image", image_meta)
        with TRANSLATED:
            record = self.client_for(context).update_image(
                image_id, image_meta, purge_props, from_state, attempt
            )
        _log_meta("Returned image", record)
        return record

    def report_upload(
        self,
        context: RequestContext,
        image_id: object,
        image_meta: Mapping[str, Any],
        from_state: str,
        attempt: str | None = None,
    ) -> int | None:
        """Change the record of an upload that begins or goes on, as `update_image_metadata` does.

        Returns how many bytes the image may have, None for any number. LimitExceeded when the
        owner's quota has no room for its size.
        """
        _log_meta("Updating image", image_meta)
        with TRANSLATED:
            client = self.client_for(context)
            return client.report_upload(image_id, image_meta, from_state, attempt)

    def withdraw_image(self, context: RequestContext, attempt: str) -> types.ImageRecord:
        """Delete the record that an attempt created and nobody has used since, and return it.

        NotFound if there is none.
        """
        with TRANSLATED:
            return self.client_for(context).withdraw_image(attempt)

    def delete_image_metadata(
        self,
        context: RequestContext,
        image_id: object,
        status: str | None = None,
        **waiting: int,
    ) -> dict[str, Any]:
        """Delete a record, leaving it in `status` (deleted, pending_delete), and return it.

        An image without data becomes `deleted` in any case. `waiting`: `due_in`, the seconds until
        the scrubber may remove the data, and `lease`, the seconds for which it is left to the
        caller.
        """
        with TRANSLATED:
            return self.client_for(context).remove_image(image_id, status, **waiting)

    def get_restorable_image(self, context: RequestContext, image_id: object) -> types.ImageRecord:
        """Return the full record of an image, which may be deleted; NotFound without one."""
        with TRANSLATED:
            return self.client_for(context).restorable_image(image_id)

    def restore_image(self, context: RequestContext, image_id: object) -> types.ImageRecord:
        """Make a deleted image active again and return its record.

        Its data must be there. NotFound if there is no such image, Duplicate if it is not deleted,
        or its data is gone or being removed now.
        """
        with TRANSLATED:
            return self.client_for(context).restore_image(image_id)

    def postpone_scrub(
        self,
        context: RequestContext,
        image_id: object,
        error: str,
        *,
        dead: bool = False,
        location: str | None = None,
    ) -> bool:
        """Hand data that could not be removed to the scrubber; True if the registry took it.

        `error` is the class of what happened, `dead` says that no other try can succeed. With a
        `location` it is about what a failed upload left there, without about the deleted image
        itself.
        """
        with TRANSLATED:
            return self.client_for(context).postpone_scrub(
                image_id, error, dead=dead, location=location
            )

    # -- members ---------------------------------------------------------------------------------

    def get_image_members(self, context: RequestContext, image_id: object) -> list[types.Member]:
        """Return the memberships of an image that the caller may see: member_id, can_share."""
        with TRANSLATED:
            return self.client_for(context).get_image_members(image_id)

    def get_member_images(
        self, context: RequestContext, member_id: object
    ) -> list[types.SharedImage]:
        """Return what is shared with a member, as far as the caller may see it."""
        with TRANSLATED:
            return self.client_for(context).get_member_images(member_id)

    def replace_members(self, context: RequestContext, image_id: object, member_data: Any) -> bool:
        """Make the members of an image exactly those given."""
        with TRANSLATED:
            return self.client_for(context).replace_members(image_id, member_data)

    def add_member(
        self,
        context: RequestContext,
        image_id: object,
        member_id: object,
        can_share: bool | None = None,
    ) -> bool:
        """Make or change one membership."""
        with TRANSLATED:
            return self.client_for(context).add_member(image_id, member_id, can_share)

    def delete_member(self, context: RequestContext, image_id: object, member_id: object) -> bool:
        """End one membership; no error if there is none."""
        with TRANSLATED:
            return self.client_for(context).delete_member(image_id, member_id)


def _log_meta(direction: str, meta: Mapping[str, Any]) -> None:
    if LOG.isEnabledFor(logging.DEBUG):
        LOG.debug("%s metadata...", direction)
        for name, value in sorted(meta.items()):
            # SECURITY: a location may carry the credentials of the store.
            LOG.debug("%20s: %s", name, "***" if name == "location" and value else value)
