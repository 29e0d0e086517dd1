"""What the tests of the dashboard look at, and with what eyes."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from playwright.sync_api import ConsoleMessage, Page

from tests.harness.documents import ROOT
from tests.harness.stream import Stream

TOKEN = "sixteen-characters-or-more"
PICTURES = ROOT / ".run" / "dashboard"
BASE_MS = 1_790_000_000_000
WIDE = {"width": 1280, "height": 900}
PAGE_MS = 20_000
"""How long a page may take on a busy machine before a test gives up."""

MARKUP = '<img src=x onerror="document.title=1">'
CATALOGUE = {
    "tent": "Two-person trekking tent, 1.9 kg",
    "boots": "Leather hiking boots",
    "mat": "Sleeping mat, 450 g",
    "stove": "Gas stove that folds small",
    "lamp": f"Head lamp {MARKUP}",
    "beans": "Coffee beans, dark roast",
    "grinder": "Coffee grinder, steel burrs",
}
USERS = ("alice", "bob", "carol", "a/b c?#%", MARKUP)


@dataclass(frozen=True)
class Served:
    """What the tests look at."""

    stream: Stream
    urls: list[str]

    def ask(self, path: str) -> Any:
        """Return what the first worker's API answers."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        request = urllib.request.Request(f"{self.urls[0]}/v1/{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def of_user(self, user: str, what: str) -> Any:
        """Return what is known of a user."""
        return self.ask(f"users/{quote(user, safe='')}/{what}")


def of_users() -> list[dict[str, Any]]:
    """Return events of every type for every user, at times of their own."""
    events = []
    for at, user in enumerate(USERS):
        for number, item in enumerate(CATALOGUE):
            kind = ("view", "click", "purchase", "review", "view")[number % 5]
            text = {"text": f"I like it: {CATALOGUE[item]}"} if kind == "review" else {}
            events.append({"type": kind, "item_id": item, **text})
        events.append({"type": "search", "text": "lightweight tent for two"})
        for number, event in enumerate(events[at * (len(CATALOGUE) + 1) :]):
            event |= {"event_id": f"{at}-{number}", "user_id": user}
            event |= {"time_ms": BASE_MS + at * 1000 + number * 600_000}
    return events


class Looks:
    """A page, and what it complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.set_default_timeout(PAGE_MS)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def expect_complaints(self, *patterns: str) -> None:
        """Take those off the list; each must be there, and nothing else."""
        for pattern in patterns:
            assert any(re.search(pattern, said) for said in self.complaints), self.complaints
        left = [said for said in self.complaints if not any(re.search(p, said) for p in patterns)]
        assert left == []
        self.complaints.clear()

    def enter(self, url: str) -> Page:
        """Open the page and give it the token."""
        self.page.goto(url)
        self.page.get_by_label("API token").fill(TOKEN)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("heading", name="Live").wait_for()
        self.page.locator("#workers tr").first.wait_for()
        return self.page

    def explore(self, user: str) -> Page:
        """Ask for a user and wait for the answer."""
        page = self.page
        page.get_by_role("link", name="Explorer").click()
        page.get_by_label("User id").fill(user)
        page.get_by_role("button", name="Show").click()
        page.get_by_role("heading", name=user, exact=True).wait_for()
        page.locator("#users:not([aria-busy])").wait_for()
        return page

    def picture(self, name: str) -> None:
        """Keep what is seen, for a person."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
