"""The address of an S3 service, and what follows from it: transport, region, addressing style.

Text processing for the modules of the S3 store; nothing here opens a connection or knows boto.
"""

from __future__ import annotations

import dataclasses
import re

from glance.common import exception
from glance.store.location import S3Location

DEFAULT_REGION = "us-east-1"

_AMAZON = re.compile(r"(?:\A|\.)amazonaws\.com(?:\.cn)?\Z")
#: A label such as eu-west-1, s3-eu-west-1 or s3-fips-us-gov-west-1.
_REGION = re.compile(r"(?:s3-)?(?:fips-)?([a-z]{2}(?:-[a-z]+)+-[0-9]+)\Z")
_DNS_SAFE = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]\Z")


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """The address of a service: host (lower case, IPv6 in brackets), port, path before buckets.

    `port` is None for the default port; `prefix` is empty or begins with a slash.
    """

    secure: bool
    host: str
    port: int | None = None
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Return the endpoint that the option names: `[http[s]://]host[:port][/path]`.

        Without a scheme it is https for Amazon and http, as in Diablo, for all other services.
        Raises ValueError.
        """
        scheme, sep, rest = text.strip().partition("://")
        if not sep:
            scheme, rest = "", text.strip()
        if scheme.lower() not in ("", "http", "https") or "@" in rest:
            raise ValueError("use host, host:port, or a URL with http or https and no credentials")
        try:
            location = S3Location.parse(f"s3://{rest.rstrip('/')}/bucket/key")
        except exception.BadStoreUri as err:
            raise ValueError("use host, host:port, or a URL with http or https") from err
        endpoint = cls.of(location)
        secure = endpoint.is_amazon if not scheme else scheme.lower() == "https"
        return dataclasses.replace(endpoint, secure=secure)

    @classmethod
    def of(cls, location: S3Location) -> Endpoint:
        """Return the endpoint of a location."""
        authority, slash, path = location.service_address.partition("/")
        host, port = authority.lower(), None
        if not authority.endswith("]") and ":" in authority:
            host, _, digits = authority.lower().rpartition(":")
            port = int(digits)
        return cls(location.is_secure, host, port, slash + path.rstrip("/") if path else "")

    @property
    def scheme(self) -> str:
        """Return the scheme of locations; never plain `s3`, whose transport is ambiguous."""
        return "s3+https" if self.secure else "s3+http"

    @property
    def effective_port(self) -> int:
        return self.port or (443 if self.secure else 80)

    @property
    def address(self) -> str:
        """Return `host[:port][/path]` as in locations."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.host}{port}{self.prefix}"

    def is_same_service(self, other: Endpoint) -> bool:
        """Return whether both lead to the same service, over any transport."""
        if (self.host, self.prefix) != (other.host, other.prefix):
            return False
        return self.port == other.port or self.effective_port == other.effective_port

    @property
    def is_amazon(self) -> bool:
        return bool(_AMAZON.search(self.host))

    @property
    def region(self) -> str:
        """Return the region in the host name, or the default one."""
        if self.is_amazon:
            for label in self.host.split("."):
                match = _REGION.match(label)
                if match is not None:
                    return match[1]
        return DEFAULT_REGION

    def names_by_host(self, bucket: str, style: str) -> bool:
        """Return whether requests name the bucket in the host instead of the path.

        `style` is `path`, `subdomain` or `auto`: a bucket with dots does not match the certificate
        of the service, and servers other than Amazon's need a wildcard in the DNS for this. A host
        name cannot represent a bucket with capitals.
        """
        if style == "auto":
            return self.is_amazon and bool(_DNS_SAFE.match(bucket))
        return style == "subdomain" and bucket == bucket.lower()
