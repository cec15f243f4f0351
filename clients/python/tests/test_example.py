"""The example of the README runs."""

from __future__ import annotations

import subprocess
import sys

from conftest import ROOT, RealCluster


def test_the_tour(nine: RealCluster) -> None:
    tour = ROOT / "clients" / "python" / "examples" / "tour.py"
    done = subprocess.run(
        [sys.executable, str(tour), ",".join(nine.endpoints[:2])],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "its outcome: COMMITTED" in done.stdout
    assert "too much: EXCEEDS_CREDITS" in done.stdout
