"""Two trainings of one snapshot are the same model, byte for byte, wherever they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.conftest import Business
from tests.models.snapshot_sums import RECIPES, sums_of


@pytest.mark.timeout(240)
def test_another_process_with_other_threads_and_hashes_makes_the_same_bytes(business: Business) -> None:
    url = str(business.store.engine.url)
    elsewhere = {"PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.snapshot_sums", url],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, **elsewhere},
        capture_output=True,
        text=True,
        check=True,
    )
    here = sums_of(url)
    assert json.loads(done.stdout) == here
    assert len({here[name] for name in RECIPES if name != "chosen"}) == len(RECIPES) - 1
