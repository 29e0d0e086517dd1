"""Exit 0 while the worker of this datadir is well: its status file is fresh and says so."""

import json
import os
import sys
import time
from pathlib import Path

FRESH_S = 15
"""The worker writes its status about once a second; a busy machine may be late."""
WELL = ("running", "rebalancing")

path = Path(os.environ["INTEREST_DATADIR"]) / "status.json"
try:
    age_s = time.time() - path.stat().st_mtime
    state = json.loads(path.read_text())["state"]
except FileNotFoundError:
    sys.exit(f"{path} is not there yet")
if age_s > FRESH_S:
    sys.exit(f"{path} is {age_s:.0f} s old")
if state not in WELL:
    sys.exit(f"the worker is {state}")
