"""``python -m benchmarks.two_models --model FOLDER [--quick] [--out FOLDER]``: a change of model.

A live worker with the untrained model plays MovieLens-1M; ``replay --model`` computes the same past
with the model of ``FOLDER`` (a bundle, or what ``train`` left), and ``replay compare`` says who
drifted and how far. The report goes to ``--out``; printed is its table as Markdown, what each took,
and a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.replay import FULL, QUICK, Stage
from benchmarks.verify_movielens import play
from encoders import model_bundle
from stream_app.demo_worker import environment
from stream_app.kafka_server import open_kafka

_NAME = "next"
_NOBODY_LEAVES_MS = 4 * 365 * 86_400_000
"""Longer than the three years of the ratings: each side has every user."""
_COLUMNS = {
    "compared": "compared",
    "neighbours_kept": "of 10 neighbours kept",
    "neighbours_kept_by_chance": "by chance",
    "rank_correlation": "rank correlation",
    "linear_cka": "CKA",
    "aligned_cosine": "aligned cosine",
}


async def _command(stage: Stage, *arguments: str) -> str:
    """Run ``interest-stream`` as anybody would and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stream_app", *arguments,
        stdout=asyncio.subprocess.PIPE, env=environment(stage.settings),
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}:\n{said!r}")
    return said.decode()


async def run(bootstrap: str, directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Play with the one model, replay with the other, compare."""
    stage = Stage(bootstrap, directory, QUICK if arguments.quick else FULL)
    stage.settings = stage.settings.model_copy(
        update={"publish_granularities": True, "window_expiry_ms": _NOBODY_LEAVES_MS}
    )
    bundle = arguments.model.absolute()
    if not model_bundle.is_bundle(bundle):
        bundle = directory / "bundle"
        await _command(stage, "export", "--model", str(arguments.model), "--out", str(bundle))
    _say(f"publishing {stage.size.events:,} ratings")
    played = await play(stage, await stage.fill())
    _say(f"played: {json.dumps(played)}")
    replayed = await _command(
        stage, "replay", "--name", _NAME, "--from", "earliest", "--model", str(bundle),
        "--datadir", str(directory / "shadow"), "--json",
    )  # fmt: skip
    summary = json.loads(replayed.splitlines()[-1])
    _say(f"replayed: {summary['events']:,} events in {summary['seconds']:.0f} s")
    out = arguments.out.absolute()
    began = time.monotonic()
    await _command(stage, "replay", "compare", _NAME, "--out", str(out))
    compared_s = round(time.monotonic() - began, 1)
    report = json.loads((out / "report.json").read_text())
    return {"played": played, "replayed": summary, "compared_s": compared_s, "drift": report}


def table(report: dict[str, Any]) -> str:
    """Return the drift of each part as a Markdown table."""
    lines = [f"| | {' | '.join(_COLUMNS.values())} |", f"|{'---|' * (len(_COLUMNS) + 1)}"]
    for name, figures in report["parts"].items():
        cells = [_cell(figures.get(column, "")) for column in _COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.3f} ({value['low']:.2f} to {value['high']:.2f})"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if value else ""


def _say(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_models", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="bundle, or folder of `train`")
    parser.add_argument("--quick", action="store_true", help="400,000 ratings")
    parser.add_argument("--out", type=Path, default=Path(".run/two-models"))
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="interest-two-models-") as name,
        open_kafka(Path(name) / "kafka") as bootstrap,
    ):
        found = asyncio.run(run(bootstrap, Path(name), arguments))
    drift = found.pop("drift")
    print(f"live {drift['live']['model_id']}, shadow {drift['shadow']['model_id']}")
    print(table(drift))
    print(json.dumps({"benchmark": "two_models", **found}))


if __name__ == "__main__":
    main()
