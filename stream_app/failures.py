"""From whatever ended a worker to the one line that says what to do about it."""

from __future__ import annotations

import errno

from faust.exceptions import ConsistencyError

from state.database import DatabaseDamaged, DatabaseFull
from stream_app.encoder_process import EncoderFailed
from stream_app.errors import FixSettings, InterestStreamError, ReportBug, RestartWorker
from stream_app.kafka_refusals import refusal
from stream_app.logs import shown
from stream_app.settings import Settings

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DISK_BROKEN = frozenset({errno.EIO, errno.EROFS})


def explained(failure: BaseException, settings: Settings) -> InterestStreamError:
    """Return the failure as an error that is ready for a person, with its exit code."""
    if isinstance(failure, EncoderFailed):  # the request that failed twice is made again
        said = shown(failure, personal_data=settings.log_personal_data)
        return RestartWorker(f"{said}; nothing is lost: start the worker again")
    if isinstance(failure, InterestStreamError):
        return failure
    if isinstance(failure, ConsistencyError):
        return FixSettings(
            f"the windows in {settings.datadir} are ahead of {settings.changelog_topic}, which "
            "was deleted or made anew: delete that datadir, or set another app_id"
        )
    refused = refusal(failure, settings.kafka)
    if refused is not None:
        return refused
    what_to_do = _of_a_disk(failure)
    if what_to_do is not None:
        return RestartWorker(f"{failure}; nothing is lost: {what_to_do}")
    allowed = settings.log_personal_data
    name = type(failure).__name__
    return ReportBug(f"{name}: {failure}" if allowed else shown(failure, personal_data=False))


def is_expected(failure: BaseException, settings: Settings) -> bool:
    """Tell whether one line says all, and nobody needs to see where it was raised."""
    return not isinstance(explained(failure, settings), ReportBug)


def _of_a_disk(failure: BaseException) -> str | None:
    """Return what to do about a disk or what lies on it; None where it is something else."""
    number = failure.errno if isinstance(failure, OSError) else None
    if isinstance(failure, DatabaseFull) or number in DISK_FULL:
        return "free some space and start the worker again, and it goes on from the last commit"
    if isinstance(failure, DatabaseDamaged):
        return "start the worker again, and it makes this database anew from its topic"
    if number in _DISK_BROKEN:
        return "give the worker a datadir on another disk and start it again"
    return None
