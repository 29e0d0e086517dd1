"""What every command is given: the settings, and a way to write for scripts or for people."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stream_app.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Write JSON, for scripts.")]


@dataclass(frozen=True)
class Context:
    """Where the settings come from."""

    config: Path | None

    def settings(self, **overrides: Any) -> Settings:
        """Return the settings.

        Raises:
            FixSettings: one of them is wrong.
        """
        from stream_app.settings import load

        return load(config=self.config, overrides=overrides)


def write_json(value: Any) -> None:
    """Write one line of JSON, at once: a reader may be waiting at the other end of a pipe."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()
