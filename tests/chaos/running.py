"""Several plans side by side on one Kafka: most of a plan's time is waiting for sessions to end."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tests.harness.broker import session_broker
from tests.harness.inflicting import Outcome, play
from tests.harness.plan import Plan

Told = Callable[[Outcome], None]


def run_all(plans: Iterable[Plan], folder: Path, *, jobs: int, until: float, told: Told) -> None:
    """Play plans until there are no more or ``time.monotonic()`` is past ``until``.

    What was begun by then is played to its end. ``told`` is called with each outcome, one at a
    time. Of failed plans the logs stay in ``folder``.
    """
    kafka = folder / "kafka"
    shutil.rmtree(kafka, ignore_errors=True)
    waiting = iter(plans)
    with session_broker(kafka) as bootstrap, ThreadPoolExecutor(jobs) as pool:
        playing: set[Future[Outcome]] = set()
        enough = threading.Event()
        while True:
            while len(playing) < jobs and not enough.is_set():
                plan = next(waiting, None) if time.monotonic() < until else None
                if plan is None:
                    enough.set()
                else:
                    playing.add(pool.submit(play, plan, bootstrap, _fresh(folder, plan)))
            if not playing:
                break
            done, playing = wait(playing, return_when=FIRST_COMPLETED)
            for each in done:
                told(each.result())
    shutil.rmtree(kafka, ignore_errors=True)


def _fresh(folder: Path, plan: Plan) -> Path:
    name = f"seed-{plan.seed}-" + "-".join(plan.faults).replace(".", "-")
    path = folder / name[:80]
    shutil.rmtree(path, ignore_errors=True)
    return path
