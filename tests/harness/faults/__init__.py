"""Every fault there is: a module ``<noun>_faults`` has a dict ``FAULTS`` of name -> FaultSpec."""

from __future__ import annotations

import importlib
import pkgutil

from tests.harness.fault import FaultSpec

_SUFFIX = "_faults"


def registered() -> dict[str, FaultSpec]:
    """Return every fault by its full name, ``<noun>.<name>``: ``worker.kill``, ``disk.wiped``.

    Raises:
        ImportError: a module of faults cannot be imported.
    """
    found: dict[str, FaultSpec] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if module.name.endswith(_SUFFIX):
            noun = module.name.removesuffix(_SUFFIX)
            faults = importlib.import_module(f"{__name__}.{module.name}").FAULTS
            found |= {f"{noun}.{name}": spec for name, spec in faults.items()}
    return found
