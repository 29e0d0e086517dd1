"""How a user's vector moved, event by event."""

from __future__ import annotations

import asyncio

import numpy as np

from encoders.interface import Float32
from stream_app.api.answers import HistoryAnswer, Landmark, Point
from stream_app.api.found_user import FoundUser, cut
from stream_app.api.item_space import ItemSpace
from stream_app.api.patience import PatientEncoder
from stream_app.api.projection import Float64, Plane, plane_of
from stream_app.api.windows import turn, up_to

LANDMARKS = 12
"""Items shown beside the path: more would hide it."""


async def history(
    found: FoundUser, encoder: PatientEncoder, items: ItemSpace, worker: str
) -> HistoryAnswer:
    """Return the window's vectors after each of its events, on a plane.

    Raises:
        ApiProblem: one of them cannot be encoded, or not now.
    """
    shown = range(found.first_shown(), len(found.window))
    path = np.zeros((0, found.info.dimensions), np.float32)
    if shown:
        prefixes = [up_to(found.window, at + 1) for at in shown]
        path = (await encoder.windows(found.parts.encoder, prefixes)).vectors
    plane = await asyncio.to_thread(plane_of, path)
    return HistoryAnswer(
        user_id=found.user_id,
        model_id=found.info.model_id,
        applied_offset=found.window.applied_offset,
        points=_points(found, shown, path, plane.lay(path)),
        landmarks=await _landmarks(found, items, path[-1], plane) if shown else [],
        explained=list(plane.explained),
        worker=worker,
    )


def _points(found: FoundUser, shown: range, path: Float32, laid: Float64) -> list[Point]:
    texts = found.texts()
    before = path[:1]
    turns = map(turn, np.concatenate([before, path[:-1]]) if len(path) else path, path)
    return [
        Point(
            event_id=found.window.event_ids[at],
            type=found.event_type(at),
            time_ms=found.window.times_ms[at],
            item_id=found.item_id(at),
            text=cut(texts[at]),
            x=float(x),
            y=float(y),
            turn=turned,
        )
        for at, (x, y), turned in zip(shown, laid, turns, strict=True)
    ]


async def _landmarks(
    found: FoundUser, items: ItemSpace, vector: Float32, plane: Plane
) -> list[Landmark]:
    table = await items.table()
    near = [each for each in await table.nearest(vector, LANDMARKS) if each.key in table]
    if not near:
        return []
    laid = plane.lay(np.stack([table.vector(each.key) for each in near]))
    texts = found.parts.catalogue.texts([each.key for each in near])
    return [
        Landmark(each.key, cut(text), each.score, float(x), float(y))
        for each, text, (x, y) in zip(near, texts, laid, strict=True)
    ]
