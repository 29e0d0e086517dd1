"""The jars of Apache Kafka, from Maven coordinates, without Maven and without a system Java.

Resolution and download are jgo's pure-Python resolver. ``jgo.build`` is not used: it sorts jars
into modules with the help of a JDK that it downloads when the machine has none.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jgo.maven import Artifact

KAFKA_VERSION = "4.3.1"

COORDINATES = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Without a binding slf4j is silent, and a broker that does not start would not say why.
    "org.slf4j:slf4j-simple:1.7.36",
)

_ALONE = (f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",)
"""The command line tools. What else they depend on is Kafka Connect with a web server, 45 jars,
which none of those tools needs that only talk to a broker."""

_PARALLEL_DOWNLOADS = 8
"""47 jars of 70 MB in all: one after the other they take 20 s, mostly waiting."""


def cache_directory() -> Path:
    """Where the resolved list of jars is remembered (the jars lie in Maven's own cache)."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "interest-stream"


def kafka_classpath() -> str:
    """Return the Java class path of the broker and Kafka's tools, downloading what is missing.

    The first call of a machine needs the network and some 10 s; later ones read a small file.
    Safe to call from several processes at once.

    Raises:
        ImportError: the ``kafka-embedded`` extra is not installed.
        RuntimeError, OSError: a jar cannot be had; the message names it.
    """
    known = hashlib.sha256("+".join((*COORDINATES, *_ALONE)).encode()).hexdigest()[:12]
    listing = cache_directory() / f"kafka-{KAFKA_VERSION}-{known}.jars"
    jars = _listed(listing)
    if jars is None:
        listing.parent.mkdir(parents=True, exist_ok=True)
        with _locked(listing.with_suffix(".lock")):
            jars = _listed(listing)  # another process may have been quicker
            if jars is None:
                jars = _resolve()
                partial = listing.with_suffix(".partial")
                partial.write_text("\n".join(map(str, jars)), encoding="utf-8")
                partial.replace(listing)
    return os.pathsep.join(map(str, jars))


def _listed(listing: Path) -> list[Path] | None:
    """Return the jars named in ``listing`` if it exists and all of them do."""
    if not listing.exists():
        return None
    jars = [Path(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    return jars if jars and all(jar.exists() for jar in jars) else None


def _resolve() -> list[Path]:
    from jgo.maven import MavenContext  # only a first start needs it

    context = MavenContext()
    wanted = [context.create_dependency(coordinate) for coordinate in COORDINATES]
    inputs, transitive = context.resolver.resolve(wanted)
    artifacts = [found.artifact for found in (*inputs, *transitive)]
    artifacts += [context.create_dependency(coordinate).artifact for coordinate in _ALONE]
    with ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
        return list(pool.map(_fetch, artifacts))


def _fetch(artifact: Artifact) -> Path:
    """Return the local path of one jar. A download that was cut off is taken up anew."""
    path = Path(artifact.resolve())
    if not zipfile.is_zipfile(path):
        path.unlink()
        path = Path(artifact.resolve())
        if not zipfile.is_zipfile(path):
            raise RuntimeError(f"{path} is not a jar, even after a second download")
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes: two downloads must not share a file."""
    with path.open("w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Fetch the jars ahead of the first start, so that an installation is whole."""
    try:
        print(f"Kafka {KAFKA_VERSION}: {len(kafka_classpath().split(os.pathsep))} jars at hand")
    except (ImportError, RuntimeError, OSError) as error:
        # Lint and unit tests do without, and so does KAFKA_BOOTSTRAP.
        print(f"Kafka {KAFKA_VERSION}: the jars cannot be had now ({error})", file=sys.stderr)


if __name__ == "__main__":
    main()
