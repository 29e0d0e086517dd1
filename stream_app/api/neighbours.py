"""The items nearest to a user, and the users nearest to a text."""

from __future__ import annotations

from stream_app.api.answers import AudienceAnswer, NearItem, NearUser, NeighboursAnswer
from stream_app.api.found_user import FoundUser, cut
from stream_app.api.interest import vector_of
from stream_app.api.item_space import ItemSpace
from stream_app.api.patience import PatientEncoder
from stream_app.api.problems import ApiProblem
from stream_app.api.user_vectors import UserVectors
from stream_app.encoding import WindowEncoder


async def neighbours(
    found: FoundUser,
    encoder: PatientEncoder,
    items: ItemSpace,
    worker: str,
    *,
    k: int,
    unseen: bool,
) -> NeighboursAnswer:
    """Return the ``k`` items nearest to the user; ``unseen``: none of the window.

    Raises:
        ApiProblem: the user cannot be encoded, or not now.
    """
    vector, _ = await vector_of(found, encoder, found.window)
    table = await items.table()
    held = {item for item in found.window.item_ids if item is not None}
    near = await table.nearest(vector, k, held if unseen else ()) if vector.any() else []
    texts = found.parts.catalogue.texts([each.key for each in near])
    return NeighboursAnswer(
        user_id=found.user_id,
        model_id=found.info.model_id,
        applied_offset=found.window.applied_offset,
        items=[
            NearItem(each.key, each.score, cut(text), each.key in held)
            for each, text in zip(near, texts, strict=True)
        ],
        items_held=len(table),
        items_evicted=table.evicted,
        complete=items.complete,
        worker=worker,
    )


async def audience(
    text: str,
    k: int,
    *,
    users: UserVectors,
    encoder: PatientEncoder,
    window_encoder: WindowEncoder,
    model_id: str,
    partitions: list[int],
    worker: str,
) -> AudienceAnswer:
    """Return the users of these partitions nearest to a text.

    Raises:
        ApiProblem: the text cannot be encoded, or not now.
    """
    (vector,) = await encoder.texts(window_encoder, [text])
    if vector is None:
        raise ApiProblem(503, "encoder-failed", "the model fails on this text")
    near = await users.nearest(vector, k)
    return AudienceAnswer(
        model_id=model_id,
        partitions=partitions,
        users=[NearUser(each.key, each.score, each.offset) for each in near],
        users_held=users.held,
        users_evicted=users.evicted,
        complete=users.complete,
        worker=worker,
    )
