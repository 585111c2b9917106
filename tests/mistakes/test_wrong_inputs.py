"""Every wrong input ends in one clear line of the library's own, and leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("wrong_inputs.py")


def test_every_wrong_input_is_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "empty"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tried"] > 1500
    assert found["faults"] == {}
