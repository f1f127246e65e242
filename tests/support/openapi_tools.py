"""Judges of OpenAPI documents, in an environment of their own: they need some thirty packages, and
their plugin for pytest would be imported in every run of the tests."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Mapping, Sequence

from support import daemons, environments

PACKAGES = ("schemathesis>=4.32,<5", "openapi-spec-validator>=0.9,<1")
#: The configuration of schemathesis, and its hooks.
HOME = pathlib.Path(__file__).parent / "schemathesis"

_VALIDATE = """
import json, sys
from openapi_spec_validator import OpenAPIV31SpecValidator
found = {}
for name, document in json.load(sys.stdin).items():
    errors = OpenAPIV31SpecValidator(document).iter_errors()
    found[name] = ["/".join([*map(str, one.absolute_path), one.message]) for one in errors]
json.dump(found, sys.stdout)
"""


def python() -> pathlib.Path:
    return environments.python(
        "schemathesis", PACKAGES, ("schemathesis", "openapi_spec_validator")
    )


def problems(documents: Mapping[str, object]) -> dict[str, list[str]]:
    """Return what OpenAPI 3.1 finds wrong with each of the documents."""
    done = subprocess.run(
        [python(), "-W", "ignore", "-c", _VALIDATE],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def schemathesis(
    url: str,
    home: pathlib.Path,
    checks: Sequence[str],
    *,
    phases: Sequence[str],
    examples: int,
    known: Mapping[str, Sequence[str]],
    headers: Mapping[str, str],
    timeout: float,
) -> str:
    """Test the service whose document is at `url`; return the report, which has no finding.

    `known` are values of variables in paths that exist, `examples` the number of requests for
    each operation.
    """
    words = [
        *(python(), "-W", "ignore", "-m", "schemathesis.cli"),
        *("--config-file", HOME / "schemathesis.toml", "run", url),
        *("--checks", ",".join(checks), "--phases", ",".join(phases)),
        *("--max-examples", str(examples), "--seed", "1", "--continue-on-failure"),
    ]
    for name, value in headers.items():
        words.append(f"--header={name}:{value}")
    environ = {
        **daemons.environment(),
        "HOME": str(home),
        "PYTHONPATH": str(HOME),
        "SCHEMATHESIS_HOOKS": "hooks",
        "GLANCE_TEST_KNOWN": json.dumps({name: list(values) for name, values in known.items()}),
        # What it has found once is not tried again in another run.
        "PYTHONHASHSEED": "0",
    }
    done = subprocess.run(
        words, env=environ, cwd=home, capture_output=True, text=True, timeout=timeout
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report[-20000:]
    assert "generated" in report and "passed" in report, report
    return report


def summary(report: str) -> str:
    """Return the lines of a report that say how much was tried."""
    return report[report.rindex(" SUMMARY ") :]


def wanted() -> int:
    """Return how many requests for each operation a long run makes; 0 for a short run."""
    return int(os.environ.get("GLANCE_TEST_OPENAPI") or 0)
