"""From a command to a plan that all processes of a replay share, and to a group that can begin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from encoders.interface import EncoderInfo
from stream_app import topics
from stream_app.errors import FixSettings, WaitForBroker
from stream_app.replaying import group
from stream_app.replaying.names import shadow_settings
from stream_app.replaying.plan import Plan, Request, check_same, fold_settings
from stream_app.replaying.plan_log import PlanLog
from stream_app.replaying.positions import EARLIEST, LATEST, duration_ms, position
from stream_app.replaying.reach import find_reach, further, read_log
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer

_BROKER_RETRY_S = 1.0


async def settled(settings: Settings, name: str, request: Request) -> Plan:
    """Return the plan of the replay ``name``: the one that exists, or else a new one.

    ``settings``: of the live worker. Afterwards the replay's topics are there and its group has
    its offsets.

    Raises:
        FixSettings: the replay was begun with other arguments, or an argument is wrong.
        FixData, WaitForBroker: the plan cannot be read.
    """
    deadline = time.monotonic() + settings.broker_wait_s
    while True:
        try:
            return await _settled(settings, name, request)
        except WaitForBroker:  # a new broker has no coordinator of groups before the first group
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(_BROKER_RETRY_S)


async def _settled(settings: Settings, name: str, request: Request) -> Plan:
    log = PlanLog(settings, name)
    plan = await log.read()
    if plan is None:
        plan = await log.propose(await _new_plan(settings, name, request))
    check_same(plan, request, settings)
    shadow = shadow_settings(settings, name)
    await topics.create(shadow)
    await _begin(shadow, plan)
    return plan


async def extended(settings: Settings, name: str) -> Plan:
    """Move the end of a replay to the present end of the log, and return the plan.

    Raises:
        FixSettings: there is no such replay, or it was begun with other settings.
        GroupHasMembers: it still runs.
    """
    log = PlanLog(settings, name)
    plan = await log.existing()
    check_same(plan, Request(), settings)
    shadow = shadow_settings(settings, name)
    await group.must_be_empty(
        settings.kafka,
        shadow.app_id,
        "extend the replay",
        patience_s=settings.session_timeout_s,
    )
    assert plan.request.start is not None
    start, warm_up_ms = position(plan.request.start), _warm_up_ms(settings, plan.request)
    async with open_consumer(settings.kafka, settings.events_topic) as consumer:
        source = await read_log(settings, consumer)
        partitions, notes = await further(source, plan.partitions, start, warm_up_ms)
    return await log.propose(
        replace(
            plan,
            revision=plan.revision + 1,
            partitions=partitions,
            request=replace(plan.request, end=LATEST),
            notes=(*plan.notes, *notes),
        )
    )


def model_check(settings: Settings, plan: Plan) -> Callable[[EncoderInfo], Awaitable[None]]:
    """Return what a worker of the replay does with its model: the first one's is everybody's.

    That function raises FixSettings where another process of the replay has another model.
    """
    log = PlanLog(settings, plan.name)

    async def check(info: EncoderInfo) -> None:
        now = await log.existing()
        while not now.model_id:
            now = await log.propose(replace(now, revision=now.revision + 1, model_id=info.model_id))
        if now.model_id != info.model_id:
            raise FixSettings(
                f"replay {plan.name} was begun with model {now.model_id}, this one is "
                f"{info.model_id}: use the same --model and model settings, or another name"
            )

    return check


async def behind_the_log(settings: Settings, plan: Plan) -> list[str]:
    """Say where retention has overtaken a replay: records it was to read are gone."""
    shadow = shadow_settings(settings, plan.name)
    committed = await topics.committed(shadow)
    async with open_consumer(settings.kafka, settings.events_topic) as consumer:
        begins = (await read_log(settings, consumer)).begins
    return [
        f"partition {number}: the replay had come to offset {at}, the log now begins at "
        f"{begins[number]}: what lay between is gone"
        for number, reach in plan.partitions.items()
        if (at := committed.get(number, reach.first)) < min(begins[number], reach.end)
    ]


async def _new_plan(settings: Settings, name: str, request: Request) -> Plan:
    shadow_settings(settings, name, model=request.model)  # refuses a name before anything is made
    said = replace(request, start=request.start or EARLIEST, end=request.end or LATEST)
    assert said.start is not None
    assert said.end is not None
    warm_up_ms = _warm_up_ms(settings, request)
    await topics.check(settings)
    reach, notes = await find_reach(settings, position(said.start), position(said.end), warm_up_ms)
    return Plan(
        revision=1,
        name=name,
        topic=settings.events_topic,
        request=said,
        partitions=reach,
        fold_settings=fold_settings(settings),
        notes=tuple(notes),
        made_ms=int(time.time() * 1000),
    )


def _warm_up_ms(settings: Settings, request: Request) -> int:
    window_ms = settings.window_max_age_ms + settings.max_future_ms
    return duration_ms(request.warm_up, window_ms) if request.warm_up else 0


async def _begin(shadow: Settings, plan: Plan) -> None:
    """Set the group's offsets, unless it has begun.

    A partition that stands where its warm-up ends is set back: it may have had nothing to read
    until the replay was extended. If it was warmed up, the same events change nothing again.
    """
    committed = await topics.committed(shadow)
    missing = {
        number: reach.first
        for number, reach in plan.partitions.items()
        if number not in committed or committed[number] == reach.start > reach.first
    }
    if not missing:
        return
    try:
        await group.set_offsets(shadow.kafka, shadow.app_id, plan.topic, missing)
    except group.GroupHasMembers:
        if missing.keys() & (await topics.committed(shadow)).keys() != missing.keys():
            raise  # somebody is in the group who did not begin the replay
