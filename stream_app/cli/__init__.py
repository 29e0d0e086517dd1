"""The command line: ``interest-stream`` and ``python -m stream_app``.

Nothing heavy is imported until a command needs it, so ``--help`` answers at once.
"""

from __future__ import annotations

import sys

from stream_app.errors import FixSettings, InterestStreamError

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""


def main() -> None:
    """Run the command line; errors on purpose are one line and an exit code of their own."""
    from stream_app.cli.commands import app

    try:
        app()
    except InterestStreamError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except Exception as error:
        from encoders.errors import EncoderError  # imports numpy, which --help can do without

        if not isinstance(error, EncoderError):
            raise
        _fail(str(error), FixSettings.exit_code)  # a model that is missing or wrong


def _fail(message: str, exit_code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(exit_code)
