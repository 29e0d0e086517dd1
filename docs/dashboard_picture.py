"""Take the pictures of the dashboard on the demo's stream: python docs/dashboard_picture.py.

Writes assets/dashboard.png and assets/dashboard-explorer.png here. Needs what `make test` needs.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from stream_app import child_process, movielens
from stream_app.local_ports import HOST, free_port

ASSETS = Path(__file__).with_name("assets")
EVENTS, RATE = 40_000, 600
"""A minute of events and some seconds more: the chart of the last minute is full."""
START_S = 300
WIDTH = 1180


def main() -> None:
    """Run the demo with an API, look at it while it plays, and stop it."""
    sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, from anywhere
    from tests.harness import chromium

    path = chromium.find()
    if path is None:
        sys.exit(chromium.ABSENT)
    port, token = free_port(), secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "demo.log"
        demo = _start(Path(folder), log, port, token)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=path)
                page = browser.new_page(viewport={"width": WIDTH, "height": 800})
                _take(page, f"http://{HOST}:{port}/", token, demo, log)
                browser.close()
        finally:
            child_process.stop(demo, 60)


def _start(folder: Path, log: Path, port: int, token: str) -> subprocess.Popen[bytes]:
    arguments = [
        "demo",
        "--events",
        str(EVENTS),
        "--rate",
        str(RATE),
        "--directory",
        str(folder / "demo"),
    ]
    with log.open("wb") as output:
        return child_process.start_bound(
            [sys.executable, "-m", "stream_app", *arguments],
            output=output,
            env=os.environ | {"INTEREST_HTTP_PORT": str(port), "INTEREST_API_TOKEN": token},
        )


def _take(page: Page, url: str, token: str, demo: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(START_S):
        if demo.poll() is not None:
            sys.exit(log.read_text(errors="replace"))
        if "embedding" in log.read_text(errors="replace"):
            break
        page.wait_for_timeout(1000)
    page.goto(url)
    page.get_by_label("API token").fill(token)
    page.keyboard.press("Enter")
    page.wait_for_function(  # so many have come, and for so long that the line fills the chart
        "() => Number(document.querySelector('#tiles dd')?.textContent.replace(',', '')) > 100",
        timeout=START_S * 1000,
    )
    page.wait_for_timeout(40_000)
    page.screenshot(path=ASSETS / "dashboard.png", full_page=True)
    seen = Counter(rating.user_id for rating in movielens.ratings(EVENTS // 2))
    user, _ = seen.most_common(12)[-1]  # somebody busy, with films of many kinds in the window
    page.goto(f"{url}#/users/{user}")
    page.locator("#path svg").wait_for(timeout=START_S * 1000)
    page.screenshot(path=ASSETS / "dashboard-explorer.png", full_page=True)


if __name__ == "__main__":
    main()
