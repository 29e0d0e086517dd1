"""A real browser: found, or installed from Debian's packages where we may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ABSENT = (
    f"no browser: none of {', '.join(NAMES)} is on the PATH; "
    "`make test` installs Debian's package chromium where it runs as root"
)
UPDATE_S, _INSTALL_S = 120, 600


def find() -> str | None:
    """Return the path of a browser, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def install() -> str:
    """Install one if there is none and we may; return one line that says how it stands."""
    if found := find():
        return f"browser: {found}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"{ABSENT}; the tests of the dashboard will be skipped"
    for arguments, seconds in (
        (["update", "-qq"], UPDATE_S),
        (["install", "-qq", "-y", "--no-install-recommends", "chromium"], _INSTALL_S),
    ):
        error = apt_get(arguments, seconds)
    found = find()
    return f"browser: {found}, installed" if found else f"no browser could be installed: {error}"


def apt_get(arguments: list[str], seconds: float, folder: Path | None = None) -> str:
    """Run it in a folder; return the last line of what it complained about."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            ["apt-get", *arguments],
            env=environment, cwd=folder, capture_output=True, text=True, check=False,
            timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"apt-get {arguments[0]} took longer than {seconds} s"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"apt-get {arguments[0]} exited {done.returncode}"


if __name__ == "__main__":
    # Tests that need no browser have to run in any case, so this never fails.
    print(install(), file=sys.stderr)
