"""Recommend items to users, from three topics: updates, item vectors and the catalogue.

    python examples/recommend.py alice bob --count 5 --diversity 0.3
    python examples/recommend.py 1m_1680 --where genres=Comedy --at-least year=1990

What the user has already met is left out. ``--where`` and ``--at-least`` look at the fields that
the catalogue's owner put beside ``item_id`` and ``text``. ``--diversity`` trades nearness to the
user for variety within the list: maximal marginal relevance (Carbonell & Goldstein 1998).

Settings (broker, names of topics) are those of the worker: INTEREST_… or interest-stream.toml.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from state.event import InvalidEvent, decode
from stream_app.compacted_topic import latest_records
from stream_app.errors import FixData, FixSettings, InterestStreamError
from stream_app.reader import UpdatesReader
from stream_app.settings import Settings, load
from stream_app.topic_scan import open_consumer, to_the_end
from stream_app.topics import partition_count, partition_of
from stream_app.updates import Update
from stream_app.user_view import read_item_space

EXAMPLE = "Example: python examples/recommend.py 1m_1680 --where genres=Comedy --at-least year=1990"

Float32 = npt.NDArray[np.float32]
POOL = 200
"""Nearest items that the list is chosen from: further down nothing is relevant any more, and the
cost of variety is count x pool dot products, not count x catalogue."""


def recommend(
    users: Annotated[list[str], typer.Argument(help="User ids.")],
    count: Annotated[int, typer.Option(min=1, help="Items per user.")] = 5,
    diversity: Annotated[
        float, typer.Option(min=0, max=1, help="0: the nearest; 1: variety alone.")
    ] = 0.3,
    where: Annotated[
        list[str] | None, typer.Option(help="FIELD=VALUE that the catalogue's record must hold.")
    ] = None,
    at_least: Annotated[
        list[str] | None, typer.Option(help="FIELD=NUMBER that the field must reach.")
    ] = None,
    seen: Annotated[bool, typer.Option(help="Leave in what the user has met.")] = False,
) -> None:
    """Recommend items to users: near to their vectors, not met before, and not all alike.

    Filters look at the fields that the catalogue's owner put beside item_id and text.
    """
    settings = load()
    wanted = pairs(where)
    least = {field: limit(field, value) for field, value in pairs(at_least).items()}
    catalogue, updates = asyncio.run(read(settings))
    allowed = {name for name, record in catalogue.items() if fits(record, wanted, least)}
    if not allowed:
        told = " and ".join([*(where or ()), *(f"at least {pair}" for pair in at_least or ())])
        raise FixData(f"no item on {settings.items_topic} has {told or 'a record'}")
    for user in users:
        name = settings.key_of(user).decode()
        if name not in updates:
            raise FixData(f"{settings.updates_topic} has no update of user {user}")
        met = set() if seen else asyncio.run(items_met(settings, user))
        space = asyncio.run(read_item_space(settings, updates[name].model_id))
        rows = [at for at, item in enumerate(space.item_ids) if item in allowed - met]
        print(user)
        if not rows:
            print("  nothing is left to recommend")
            continue
        vector = np.array(updates[name].vector, dtype=np.float32)
        vectors = space.vectors[rows]
        relevance = vectors @ vector
        chosen = marginal_relevance(relevance, vectors, count, 1.0 - diversity)
        for at in chosen:
            item = space.item_ids[rows[at]]
            asked = ", ".join(str(catalogue[item][field]) for field in [*wanted, *least])
            print(f"  {relevance[at]:+.3f}  {item}  {asked}".rstrip())
        print(f"  likeness within the list: {likeness(vectors[chosen]):.3f}")


def marginal_relevance(
    relevance: Float32, vectors: Float32, count: int, trade_off: float
) -> list[int]:
    """Return the places of ``count`` items, each time the one of the greatest

        trade_off * relevance - (1 - trade_off) * (greatest likeness to one chosen before)

    ``relevance`` is [N], ``vectors`` [N, D] of unit length. A trade-off of 1 sorts by relevance.
    Carbonell & Goldstein 1998, "The use of MMR", section 2.
    """
    pool = np.argsort(-relevance, kind="stable")[:POOL]
    likeness_to_chosen = np.full(len(pool), -1.0, dtype=np.float32)  # the least there is
    chosen: list[int] = []
    free = np.ones(len(pool), dtype=bool)
    for _ in range(min(count, len(pool))):
        gain = trade_off * relevance[pool] - (1.0 - trade_off) * likeness_to_chosen
        best = int(np.argmax(np.where(free, gain, -np.inf)))
        free[best] = False
        chosen.append(int(pool[best]))
        np.maximum(likeness_to_chosen, vectors[pool] @ vectors[pool[best]], out=likeness_to_chosen)
    return chosen


def likeness(vectors: Float32) -> float:
    """Return the mean cosine between two different items of a list; 0 if there is only one."""
    count = len(vectors)
    if count < 2:
        return 0.0
    return float((vectors @ vectors.T).sum() - np.square(vectors).sum()) / (count * (count - 1))


def pairs(told: Sequence[str] | None) -> dict[str, str]:
    """Return field -> value of FIELD=VALUE arguments."""
    found = {}
    for pair in told or ():
        field, equals, value = pair.partition("=")
        if not (field and equals and value):
            raise FixSettings(f"{pair!r} is not FIELD=VALUE, as in genres=Comedy or year=1990")
        found[field] = value
    return found


def fits(record: Mapping[str, Any], wanted: Mapping[str, str], least: Mapping[str, float]) -> bool:
    """Tell whether each field of ``wanted`` is or lists the value, and each of ``least`` is a
    number that reaches it."""
    for field, value in wanted.items():
        held = record.get(field, "")
        names = held if isinstance(held, list) else str(held).split(",")
        if value.casefold() not in (str(name).strip().casefold() for name in names):
            return False
    return all(number(record.get(field)) >= value for field, value in least.items())


def limit(field: str, value: str) -> float:
    """Return the number a field must reach.

    Raises:
        FixSettings: it is none.
    """
    try:
        return float(value)
    except ValueError:
        raise FixSettings(f"--at-least {field}={value}: {value!r} is no number") from None


def number(told: Any) -> float:
    """Return a field as a number; what is none reaches nothing."""
    try:
        return float(told)
    except (TypeError, ValueError):
        return float("-inf")


async def read(settings: Settings) -> tuple[dict[str, dict[str, Any]], dict[str, Update]]:
    """Return the catalogue's records by item id, and the latest update of every user."""
    catalogue = await latest_records(settings.kafka, settings.items_topic)
    async with UpdatesReader(settings.kafka, settings.updates_topic) as reader:
        await reader.catch_up()
        return catalogue, dict(reader.updates)


async def items_met(settings: Settings, user: str) -> set[str]:
    """Return the items of all events of a user that are still in the events topic.

    That topic's keys are user ids, with pseudonyms, too. What the worker refuses is no event.
    """
    topic, key, limits = settings.events_topic, user.encode(), settings.event_limits()
    count = await partition_count(settings.kafka, topic)
    met = set()
    async with open_consumer(settings.kafka, topic, [partition_of(key, count)]) as consumer:
        async for record in to_the_end(consumer):
            if record.key == key:
                with contextlib.suppress(InvalidEvent):
                    met.add(decode(key, record.value, record.timestamp, limits).item_id)
    return {item for item in met if item is not None}


def main() -> None:
    """Run; what an operator can mend is one line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(epilog=EXAMPLE)(recommend)
    try:
        app()
    except InterestStreamError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
