"""Certificates made by the openssl command: a chain of authorities, and what may be wrong."""

from __future__ import annotations

import pathlib
import subprocess

from support import images

_CONFIG = """
[ca]
default_ca = authority
[authority]
new_certs_dir = {directory}
database = {directory}/index
serial = {directory}/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
[authority_extensions]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server_extensions]
basicConstraints = CA:false
subjectAltName = IP:127.0.0.1, DNS:localhost
[wildcard_extensions]
basicConstraints = CA:false
subjectAltName = DNS:s3.test, DNS:*.s3.test
[stranger_extensions]
basicConstraints = CA:false
subjectAltName = DNS:elsewhere.example
"""


class Authority:
    """A root that has signed an intermediate authority, which signs for servers.

    Files: `root` (what clients trust), and for each `issue` a chain and its key.
    """

    def __init__(self, directory: pathlib.Path):
        images.need("openssl")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._config = directory / "openssl.cnf"
        self._config.write_text(_CONFIG.format(directory=directory))
        (directory / "index").write_text("")
        (directory / "serial").write_text("01\n")
        self.root, self._root_key = self.self_signed("root", "authority_extensions")
        self._middle, self._middle_key = self._sign(
            "middle", "authority_extensions", self.root, self._root_key, "20990101000000Z"
        )

    def self_signed(
        self, name: str, extensions: str = "server_extensions"
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """Return certificate and key of somebody whom only he himself vouches for."""
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        self._run(
            *("req", "-x509", "-new", "-nodes", "-days", "30", "-newkey", "rsa:2048"),
            *("-subj", f"/CN={name}", "-extensions", extensions, "-keyout", key, "-out", cert),
        )
        return cert, key

    def issue(
        self,
        name: str,
        extensions: str = "server_extensions",
        end: str = "20990101000000Z",
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """Return a server's chain (its certificate, then the intermediate one) and its key."""
        cert, key = self._sign(name, extensions, self._middle, self._middle_key, end)
        chain = self.directory / f"{name}-chain.pem"
        chain.write_text(cert.read_text() + self._middle.read_text())
        return chain, key

    def _sign(
        self, name: str, extensions: str, cert: pathlib.Path, key: pathlib.Path, end: str
    ) -> tuple[pathlib.Path, pathlib.Path]:
        made, own_key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        request = self.directory / f"{name}.csr"
        self._run(
            *("req", "-new", "-nodes", "-newkey", "rsa:2048", "-subj", f"/CN={name}"),
            *("-keyout", own_key, "-out", request),
        )
        self._run(
            *("ca", "-batch", "-notext", "-in", request, "-out", made, "-cert", cert),
            *("-keyfile", key, "-extensions", extensions),
            *("-startdate", "20200101000000Z", "-enddate", end),
        )
        return made, own_key

    def _run(self, command: str, *arguments: str | pathlib.Path) -> None:
        done = subprocess.run(
            ["openssl", command, "-config", self._config, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
