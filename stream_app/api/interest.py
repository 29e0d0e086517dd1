"""The vector of a user, and why: what each event and each granularity does to it."""

from __future__ import annotations

import numpy as np

from encoders.interface import Float32
from state.window import Window
from stream_app.api.answers import Granularity, HeldEvent, InterestAnswer, Provenance
from stream_app.api.found_user import FoundUser, cut
from stream_app.api.patience import PatientEncoder
from stream_app.api.windows import cosine, counts_by_type, shares, turn, without


async def vector_of(
    found: FoundUser, encoder: PatientEncoder, window: Window
) -> tuple[Float32, Float32]:
    """Return the vector [D] of a window, and that of each granularity [G, D].

    Raises:
        ApiProblem: it cannot be encoded, or not now.
    """
    if not len(window):
        nothing = np.zeros((len(found.info.granularities), found.info.dimensions), np.float32)
        return np.zeros(found.info.dimensions, np.float32), nothing
    encoded = await encoder.windows(found.parts.encoder, [window], with_granularities=True)
    assert encoded.granularities is not None, "they were asked for"
    return encoded.vectors[0], encoded.granularities[0]


async def interest(found: FoundUser, encoder: PatientEncoder, worker: str) -> InterestAnswer:
    """Return the user's vector as of now, and why it is so.

    Raises:
        ApiProblem: it cannot be encoded, or not now.
    """
    window, info = found.window, found.info
    vector, granular = await vector_of(found, encoder, window)
    return InterestAnswer(
        user_id=found.user_id,
        time_ms=window.newest_ms,
        vector=vector.tolist(),
        granularities=[
            Granularity(name, weight, cosine(own, vector))
            for name, weight, own in zip(info.granularities, info.weights, granular, strict=True)
        ],
        counts=counts_by_type(window),
        events=await _events(found, encoder, vector),
        provenance=Provenance(
            model_id=info.model_id,
            topic=found.topic,
            partition=found.partition,
            applied_offset=window.applied_offset,
            folded_offset=found.folded_offset,
            event_ids=list(window.event_ids),
            worker=worker,
        ),
    )


async def _events(found: FoundUser, encoder: PatientEncoder, vector: Float32) -> list[HeldEvent]:
    window = found.window
    shown = range(found.first_shown(), len(window))
    if not shown:
        return []
    texts = found.texts()
    keys = found.keys()
    known = await encoder.by_key(found.parts.encoder, [keys[at] for at in shown])
    turns = await _turns(found, encoder, vector, shown)
    contributions = shares(turns)
    return [
        HeldEvent(
            event_id=window.event_ids[at],
            type=found.event_type(at),
            time_ms=window.times_ms[at],
            item_id=found.item_id(at),
            text=cut(texts[at]),
            session_id=window.session_ids[at] if window.session_ids else None,
            dwell_ms=window.dwell_ms[at] if window.dwell_ms else None,
            known=keys[at] in known,
            contribution=contribution,
            turn=turned,
            similarity=cosine(known[keys[at]], vector) if keys[at] in known else 0.0,
        )
        for at, contribution, turned in zip(shown, contributions, turns, strict=True)
    ]


async def _turns(
    found: FoundUser, encoder: PatientEncoder, vector: Float32, shown: range
) -> list[float]:
    """Return how far the vector would be from where it is without each of these events."""
    if len(found.window) == 1:
        return [turn(np.zeros_like(vector), vector)]
    left_out = [without(found.window, at) for at in shown]
    encoded = await encoder.windows(found.parts.encoder, left_out)
    return [turn(other, vector) for other in encoded.vectors]
