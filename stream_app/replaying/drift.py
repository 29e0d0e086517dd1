"""``replay compare``: what is live against a shadow that another model made of the same past."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from encoders import EncoderError, model_bundle
from encoders.evaluation.drift import NEIGHBOURS, drift, places
from encoders.evaluation.pages import Picture, html_page
from encoders.interface import Float32
from stream_app.errors import FixData, FixSettings
from stream_app.replaying.drift_report import Part, Report, Side, blocks
from stream_app.replaying.drift_vectors import Population, UserVectors, user_hash
from stream_app.replaying.names import shadow_settings
from stream_app.replaying.plan_log import PlanLog
from stream_app.settings import Settings
from stream_app.user_view import ItemSpace, read_item_space

MOST_USERS = 20_000
"""Compared, of however many there are: their vectors and granularities are held in memory."""

_NO_GRANULARITIES = (
    "updates carry each granularity's own vector only with publish_granularities, which was not "
    "set for the {} ones"
)
_TOO_FEW = "fewer than three have a vector that is not zero in both"


async def compare(settings: Settings, name: str, command: str, most_users: int) -> Report:
    """Return how the shadow ``name`` differs from what is live by now.

    Raises:
        FixSettings: there is no such replay.
        FixData: the two have no user in common whose vectors are of the same window.
        WaitForBroker: the broker does not answer.
    """
    plan = await PlanLog(settings, name).existing()
    shadow = shadow_settings(settings, name)
    live_users, shadow_users = Population(most_users), Population(most_users)
    await live_users.read(settings)
    await shadow_users.read(shadow)
    live = _side(settings.updates_topic, live_users, None)
    other = _side(shadow.updates_topic, shadow_users, plan.model_id or None)
    pairs, elsewhere = _pairs(live_users, live.model_id, shadow_users, other.model_id)
    if not pairs:
        raise FixData(
            f"no user has the same window in {live.topic} (model {live.model_id or 'none'}) and in "
            f"{other.topic} (model {other.model_id or 'none'}); "
            f"`interest-stream replay --name {name} --extend` brings the shadow up to now"
        )
    same_space = live.model_id == other.model_id or _related(settings, plan.request.model)
    items = await _items(settings, live.model_id), await _items(shadow, other.model_id)
    mine, theirs = _of_model(live_users, live.model_id), _of_model(shadow_users, other.model_id)
    return Report(
        command=command,
        live=live,
        shadow=other,
        only_live=len(mine - theirs),
        only_shadow=len(theirs - mine),
        at_other_offsets=elsewhere,
        sampled_of=len(mine & theirs),
        vectors=_part("users", list(pairs), *_rows(pairs), same_space=same_space),
        granularities=_granularities(pairs, same_space=same_space),
        items=_item_part(*items, same_space=same_space),
        notes=_notes(elsewhere, same_space=same_space),
    )


Pairs = Mapping[str, tuple[UserVectors, UserVectors]]


def _side(topic: str, users: Population, wanted: str | None) -> Side:
    models = users.models
    model_id = wanted or (models.most_common(1)[0][0] if models else "")
    return Side(topic, model_id, models[model_id], models.total() - models[model_id])


def _of_model(users: Population, model_id: str) -> set[str]:
    return {user for user, of in users.model_of.items() if of == model_id}


def _pairs(
    live: Population, live_model: str, shadow: Population, shadow_model: str
) -> tuple[Pairs, int]:
    """Return the users whose two vectors are of the same window, and how many have others.

    By hash, so that the two samples, drawn apart, are of the same users.
    """
    below = min(live.below, shadow.below)
    pairs: dict[str, tuple[UserVectors, UserVectors]] = {}
    elsewhere = 0
    for user in sorted(live.kept.keys() & shadow.kept.keys()):
        one, other = live.kept[user], shadow.kept[user]
        if user_hash(user) >= below or (one.model_id, other.model_id) != (live_model, shadow_model):
            continue
        if one.applied_offset == other.applied_offset:
            pairs[user] = one, other
        else:
            elsewhere += 1
    return pairs, elsewhere


def _rows(pairs: Pairs) -> tuple[Float32, Float32]:
    return (
        np.array([one.vector for one, _ in pairs.values()]),
        np.array([other.vector for _, other in pairs.values()]),
    )


def _granularities(pairs: Pairs, *, same_space: bool) -> list[Part]:
    said = [
        which
        for which, at in (("live", 0), ("shadow", 1))
        if not any(pair[at].granularities for pair in pairs.values())
    ]
    if said:
        return [Part("granularities", None, _NO_GRANULARITIES.format(" and the ".join(said)))]
    names: dict[str, None] = {}
    for pair in pairs.values():
        names |= dict.fromkeys(n for n in pair[0].granularities if n in pair[1].granularities)
    parts = []
    for name in names:
        both = {
            user: (one.granularities[name], other.granularities[name])
            for user, (one, other) in pairs.items()
            if name in one.granularities and name in other.granularities
        }
        rows = (np.array([pair[at] for pair in both.values()]) for at in (0, 1))
        parts.append(_part(name, list(both), *rows, same_space=same_space))
    return parts


def _part(name: str, ids: Sequence[str], one: Float32, other: Float32, *, same_space: bool) -> Part:
    same = same_space and one.shape[1:] == other.shape[1:]
    found = drift(one, other, same_space=same)
    if found is None:
        return Part(name, None, _TOO_FEW)
    return Part(
        name, found, ids=[ids[at] for at in np.flatnonzero(places(one) & places(other)).tolist()]
    )


async def _items(settings: Settings, model_id: str) -> ItemSpace:
    return await read_item_space(settings, model_id)


def _item_part(one: ItemSpace, other: ItemSpace, *, same_space: bool) -> Part:
    place = {item: at for at, item in enumerate(other.item_ids)}
    both = [(at, place[item]) for at, item in enumerate(one.item_ids) if item in place]
    if not both:
        return Part("items", None, "no item has a vector of each model (publish_item_vectors)")
    left, right = map(list, zip(*both, strict=True))
    ids = [one.item_ids[at] for at in left]
    return _part("items", ids, one.vectors[left], other.vectors[right], same_space=same_space)


def _related(settings: Settings, shadow_model: str | None) -> bool:
    """Tell whether one bundle was made of the other, or both of the same: they share a space."""
    if shadow_model is None or not settings.model:
        return False
    try:
        one, other = (
            model_bundle.read_manifest(Path(each)) for each in (settings.model, shadow_model)
        )
    except EncoderError:
        return False
    families = [{each.model_id, each.origin.parent_model_id} - {""} for each in (one, other)]
    return one.dimensions == other.dimensions and bool(families[0] & families[1])


def _notes(elsewhere: int, *, same_space: bool) -> list[str]:
    notes = [f"Neighbours are the {NEIGHBOURS} of the highest cosine."]
    if elsewhere:
        notes.append(
            f"{elsewhere:,} users are left out: their two vectors are of different windows, for "
            "the one topic is further on than the other."
        )
    if not same_space:
        notes.append(
            "The models are not of one family, so their vectors' plain cosines mean nothing and "
            "are not given."
        )
    return notes


def write(report: Report, out: Path) -> Sequence[Path]:
    """Write report.html, report.json and the plots into a folder; return what was made.

    Raises:
        FixSettings: the files cannot be written.
    """
    page = blocks(report, with_plots=importlib.util.find_spec("matplotlib") is not None)
    contents = {
        out / "report.html": html_page(page).encode(),
        out / "report.json": json.dumps(report.as_json(), indent=1).encode() + b"\n",
    }
    for picture in (block for block in page if isinstance(block, Picture)):
        contents[out / f"{picture.name}.png"] = picture.png
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            path.write_bytes(content)
    except OSError as error:
        raise FixSettings(f"{error.filename} cannot be written: {error.strerror}") from None
    return list(contents)
