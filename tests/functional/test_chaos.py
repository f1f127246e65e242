"""A short run of tests/chaos/kills.py on each database; see contributing.rst for long ones."""

import subprocess
import sys

import pytest

from support import daemons, longer

SCRIPT = daemons.ROOT / "tests" / "chaos" / "kills.py"


@pytest.mark.slow
@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=[pytest.mark.peers, longer.only])]
)
def test_nothing_is_lost_wrong_or_left_over(database, tmp_path):
    command = [sys.executable, "-W", "ignore", SCRIPT, "--kills=20", f"--database={database}"]
    done = subprocess.run(
        [*command, f"--dir={tmp_path}"], capture_output=True, text=True, env=daemons.environment()
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 kills" in done.stdout
    assert list(tmp_path.iterdir()) == []
