"""The Faust app under its usual name: ``faust -A stream_app.app worker``.

Settings come from the environment and the TOML file, as for ``interest-stream worker``.
"""

from __future__ import annotations

from stream_app.settings import load
from stream_app.worker import Worker

worker = Worker(load())
app = worker.app
