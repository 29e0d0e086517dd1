"""Prometheus's promtool: found, or taken out of Debian's package, whose service nobody starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tests.harness.chromium import UPDATE_S, apt_get
from tests.harness.documents import ROOT

ABSENT = (
    "no promtool on the PATH; `make test` takes it out of Debian's package prometheus where it "
    "runs as root"
)
_FOLDER = ROOT / ".run" / "promtool"
_UNPACKED = _FOLDER / "usr" / "bin" / "promtool"
_DOWNLOAD_S, _UNPACK_S = 300, 120


def find() -> str | None:
    """Return its path, None where there is none."""
    return shutil.which("promtool") or (str(_UNPACKED) if _UNPACKED.is_file() else None)


def install() -> str:
    """Unpack it if there is none and we may; return one line that says how it stands."""
    if found := find():
        return f"promtool: {found}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"{ABSENT}; the alert rules will not be tried"
    _FOLDER.mkdir(parents=True, exist_ok=True)
    error = _download()
    if not any(_FOLDER.glob("*.deb")):  # the lists of packages may be old, or not be there
        apt_get(["update", "-qq"], UPDATE_S)
        error = _download()
    for package in _FOLDER.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, _FOLDER], check=False, timeout=_UNPACK_S)
        package.unlink()
    found = find()
    return f"promtool: {found}, unpacked" if found else f"no promtool could be had: {error}"


def _download() -> str:
    return apt_get(["download", "-qq", "prometheus"], _DOWNLOAD_S, _FOLDER)


if __name__ == "__main__":
    # Tests that need no promtool have to run in any case, so this never fails.
    print(install(), file=sys.stderr)
