"""The interface to boto: signing and naming, without settings that boto finds by itself.

boto names buckets in requests, signs them, and parses XML; `glance.store.s3.exchange` sends them.
This module is imported only when an S3 store is used. /etc/boto.cfg, ~/.boto and environment
variables have no effect.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from glance.store.s3.endpoint import Endpoint
from glance.store.s3.exchange import Keys, S3Exchange, Sending

__all__ = [
    "BotoServerError",
    "SigningConnection",
    "MultiPartUpload",
    "OrdinaryCallingFormat",
    "SubdomainCallingFormat",
]


class _NoSecrets(logging.Filter):
    """Drops what boto logs at debug level: headers, signatures and what was signed.

    SECURITY: also if the operator's own logging configuration enables that level.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG


@contextlib.contextmanager
def _without_settings() -> Iterator[None]:
    """Keep boto from reading its configuration files, which it does when it is imported."""
    names = ("BOTO_CONFIG", "AWS_CREDENTIAL_FILE")
    saved = {name: os.environ.pop(name, None) for name in names}
    os.environ["BOTO_CONFIG"] = os.devnull
    try:
        yield
    finally:
        del os.environ["BOTO_CONFIG"]
        os.environ.update({name: value for name, value in saved.items() if value is not None})


logging.getLogger("boto").addFilter(_NoSecrets())
with _without_settings():
    import boto.provider
    from boto.exception import BotoServerError
    from boto.s3.connection import OrdinaryCallingFormat, S3Connection, SubdomainCallingFormat
    from boto.s3.multipart import MultiPartUpload


class _Provider(boto.provider.Provider):  # type: ignore[misc]  # boto ships no hints
    """The given keys only, nothing from files, environment or the host's metadata service."""

    def __init__(self, keys: Keys | None):
        self.name = "aws"
        self.host = self.port = self.host_header = None
        self.access_key = keys.access if keys else None
        self.secret_key = keys.secret if keys else None
        self.security_token = self.profile_name = None
        self.acl_class = self.AclClassMap[self.name]
        self.canned_acls = self.CannedAclsMap[self.name]
        self._credential_expiry_time = None
        self.configure_headers()
        self.configure_errors()


class SigningConnection(S3Connection):  # type: ignore[misc]  # boto ships no hints
    """boto's connection, whose requests an `S3Exchange` sends.

    It keeps no state between requests, so that many greenthreads may use it at once.
    """

    def __init__(
        self, endpoint: Endpoint, region: str, keys: Keys | None, exchange: S3Exchange, style: Any
    ):
        self._exchange = exchange
        self._signature = exchange.settings.signature
        super().__init__(
            is_secure=endpoint.secure,
            port=endpoint.effective_port,
            host=endpoint.host,
            path=f"{endpoint.prefix}/",
            calling_format=style,
            provider=_Provider(keys),
            suppress_consec_slashes=False,
            anon=keys is None,
        )
        # NOTE: boto's own settings could have changed these.
        self.is_secure, self.protocol = endpoint.secure, "https" if endpoint.secure else "http"
        if keys is not None and self._signature == 4:
            self.auth_region_name = region

    def _required_auth_capability(self) -> list[str]:
        if self.anon:
            return ["anon"]
        return ["hmac-v4-s3"] if self._signature == 4 else ["s3"]

    def handle_proxy(self, *settings: Any) -> None:
        """Use no proxy: boto would search the environment for one, and print advice."""
        self.proxy = self.proxy_port = self.proxy_user = self.proxy_pass = None
        self.no_proxy, self.use_proxy = "", False

    def server_name(self, port: int | None = None) -> str:
        """Return the bare host: the signer of version 4 adds the port itself."""
        return str(self.host)

    def _mexe(
        self,
        request: Any,
        sender: Any = None,
        override_num_retries: Any = None,
        retry_handler: Any = None,
    ) -> Any:
        # boto passes `sender` on unchanged.
        return self._exchange.carry_out(self, request, sender or Sending())
