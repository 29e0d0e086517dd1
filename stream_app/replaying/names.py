"""What a replay is called: its shadow of each topic, group and folder that a worker writes to."""

from __future__ import annotations

import re
from pathlib import Path

from stream_app import settings as settings_module
from stream_app.errors import FixSettings
from stream_app.settings import Settings

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
"""What topics, groups and folders may all be called; short, for app_id has 100 characters."""
_MARK = "-replay-"


def shadow_settings(
    settings: Settings, name: str, *, model: str | None = None, datadir: Path | None = None
) -> Settings:
    """Return the settings of the replay ``name``: a worker on them writes to nothing live.

    It reads the same events and items. Group, changelog, updates, item vectors, dead letters and
    datadir are its own. ``model``: a bundle instead of the live model. ``datadir``: of one of
    several processes on one machine, instead of ``<datadir>/replays/<name>``.

    Raises:
        FixSettings: the name cannot be part of a topic's name, or makes one too long.
    """
    if not _NAME.fullmatch(name):
        raise FixSettings(
            f"a replay's name is 1 to 40 of a-z, 0-9, '.', '_' and '-', beginning with a letter or "
            f"a digit; found {name!r}"
        )
    changed: dict[str, object] = {
        "app_id": shadow(settings.app_id, name),
        "updates_topic": shadow(settings.updates_topic, name),
        "item_vectors_topic": shadow(settings.item_vectors_topic, name),
        "dead_letters_topic": shadow(settings.dead_letters_topic, name),
        "datadir": datadir or settings.datadir / "replays" / name,
        "http_port": 0,  # the live worker's, perhaps on this very machine
    }
    if model is not None:
        # A bundle brings both of its models, and is no stub.
        changed |= {
            "model": model,
            "encoder": "transformer",
            "text_model": "",
            "interest_model": "",
        }
    return settings_module.checked({**settings.model_dump(), **changed})


def shadow(live: str, name: str) -> str:
    """Return what the replay ``name`` calls the thing that is called ``live``."""
    return f"{live}{_MARK}{name}"


def name_of(shadow_name: str, live: str) -> str | None:
    """Return the replay that calls ``live`` by ``shadow_name``, ``None`` if that is no such name.

    >>> name_of("interest.updates-replay-june", "interest.updates")
    'june'
    """
    prefix = live + _MARK
    name = shadow_name.removeprefix(prefix)
    return name if shadow_name.startswith(prefix) and _NAME.fullmatch(name) else None


def plan_topic(settings: Settings, name: str) -> str:
    """Return the topic that holds the plan of the replay ``name`` of a live worker's settings."""
    return f"{shadow(settings.app_id, name)}-plan"
