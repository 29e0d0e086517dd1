"""What can go wrong, named after what the operator does about it."""

from __future__ import annotations


class InterestStreamError(Exception):
    """Base of every error this package raises on purpose. One line, ready for a person."""

    exit_code = 1
    quotes_data = False
    """Whether the message may hold ids or texts of users: then it is for no log."""


class FixSettings(InterestStreamError):
    """A setting is wrong: the message names it, what was found and what is allowed."""

    exit_code = 2


class FixData(InterestStreamError):
    """A file or a topic holds what we cannot read."""

    exit_code = 3


class WaitForBroker(InterestStreamError):
    """The broker did not answer in time; it may later."""

    exit_code = 4


class RestartWorker(InterestStreamError):
    """The worker cannot go on but a fresh start resumes from the last commit; nothing is lost."""

    exit_code = 5


class ReportBug(InterestStreamError):
    """Something that cannot happen did."""

    exit_code = 6
