"""A disk of a few megabytes, to be filled: tmpfs, which takes the right to mount."""

from __future__ import annotations

import errno
import shutil
import subprocess
import tempfile
from pathlib import Path

_CHUNK = bytes(1 << 16)


class MountRefused(Exception):
    """This process may not mount; the message is what ``mount`` said."""


class SmallDisk:
    """A tmpfs over a folder, which is made if need be."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:  # no mount command here
            raise MountRefused(str(error)) from None
        if done.returncode != 0:
            raise MountRefused(done.stderr.strip())
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("ab", buffering=0) as ballast:
            while True:
                try:
                    ballast.write(_CHUNK)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def free_bytes(self) -> int:
        """Return what is left."""
        return shutil.disk_usage(self.folder).free

    def release(self) -> None:
        """Give back what :meth:`fill` took."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount, even while a process still has files open there."""
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def why_not() -> str:
    """Return why no small disk can be had here, empty if one can."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            SmallDisk(Path(folder) / "disk", 1).close()
        except MountRefused as error:
            return f"no tmpfs can be mounted here: {error}"
    return ""
