"""A site whose API caches images, and the cache programs on its directory."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
import subprocess
from collections.abc import Mapping
from typing import Any

from support import daemons, operators, rawhttp
from support.faults import until

PIPELINE = "versionnegotiation context cache cachemanage apiv1app"


class CachingSite(daemons.Site):
    """A site whose API caches; hits are written down at once, answers tell their source."""

    def __init__(
        self, directory: pathlib.Path, *, api: Mapping[str, Any] | None = None, **kwargs: Any
    ):
        self.cache_dir = directory / "cache"
        options = {
            "image_cache_enabled": True,
            "image_cache_dir": self.cache_dir,
            "image_cache_min_free_disk": 0,
            "image_cache_hit_flush_interval": 0.1,
            "image_cache_debug_header": True,
            **(api or {}),
        }
        kwargs.setdefault("api_pipeline", PIPELINE)
        super().__init__(directory, api=options, **kwargs)

    def rows(self, state: str = "complete") -> dict[int, dict[str, Any]]:
        """Return the entries of the index in a state, by image id; {} if there is no index."""
        address = f"file:{self.cache_dir / 'cache.db'}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, uri=True)) as index:
                index.row_factory = sqlite3.Row
                query = "SELECT * FROM entries WHERE state = ?"
                found = index.execute(query, (state,)).fetchall()
        except sqlite3.Error:
            return {}
        return {int(row["image_id"]): dict(row) for row in found}

    def empty_log(self) -> None:
        """Move what is in the write-ahead log of the index into the index, and empty the log."""
        with contextlib.closing(sqlite3.connect(self.cache_dir / "cache.db")) as index:
            index.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def files(self, below: str = "") -> list[pathlib.Path]:
        """Return the files of images in the cache: all, or those below entries, incomplete ..."""
        tops = [below] if below else ["entries", "incomplete", "invalid"]
        return sorted(
            path
            for top in tops
            for path in (self.cache_dir / top).rglob("*")
            if path.is_file() or path.is_symlink()
        )

    def entry_file(self, image_id: int) -> pathlib.Path:
        """Return the file of a complete entry."""
        return self.cache_dir / self.until_cached(image_id)["file"]

    def until_cached(self, image_id: int) -> dict[str, Any]:
        """Wait until an image is a complete entry, and return that."""
        return until(lambda: self.rows().get(image_id), f"image {image_id} is cached")

    def fetch(self, image_id: int, **headers: str) -> rawhttp.Reply:
        """Download an image. Headers are named with underscores."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.get(f"/v1/images/{image_id}", given)

    def cached(self, image_id: int) -> dict[str, Any]:
        """Download an image so that it is cached; return its entry."""
        assert self.fetch(image_id).status == 200
        return self.until_cached(image_id)

    def write_conf(self, program: str, **options: Any) -> pathlib.Path:
        """Write the file of a cache program that works on this site."""
        return write_conf(program, self, self.cache_dir, **options)

    def run(self, program: str, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a program of bin/ in the site's directory, where it finds its configuration."""
        return operators.run(program, *words, cwd=self.directory)

    def manage(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.run("glance-cache-manage", "--port", self.port, *words)

    def glance(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.run("glance", "--port", self.port, *words)


def source(reply: rawhttp.Reply) -> str:
    """Return where an answer's body came from: hit, stored, collapsed, or why the cache failed."""
    status = reply.header("Cache-Status") or ""
    assert status.startswith("glance; "), reply.headers
    return status.split("; ")[-1].removeprefix("detail=").strip('"')


def write_conf(
    program: str, site: daemons.Site, cache_dir: pathlib.Path, **options: Any
) -> pathlib.Path:
    """Write the file of a cache program, with its `[app:...]` as in Diablo."""
    module = program.removeprefix("glance-")
    values = {
        "verbose": True,
        "image_cache_dir": cache_dir,
        "image_cache_min_free_disk": 0,
        "registry_host": "127.0.0.1",
        "registry_port": site.registry.port,
        "filesystem_store_datadir": site.data_dir,
        **options,
    }
    if secret := site.api_options.get("registry_shared_secret"):
        # The registry answers nobody who does not know it.
        values["registry_shared_secret"] = secret
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    path = site.directory / f"{program}.conf"
    path.write_text(
        f"[DEFAULT]\n{lines}[app:{program}]\n"
        f"paste.app_factory = glance.image_cache.{module}:app_factory\n"
    )
    return path
