"""What the tests of the dashboard look at, and with what eyes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import ConsoleMessage, Page

from tests.harness.api import TOKEN, Answer, Api
from tests.harness.deadline import PATIENCE_S
from tests.harness.documents import ROOT
from tests.harness.stream import Stream

PICTURES = ROOT / ".run" / "dashboard"
BASE_MS = 1_790_000_000_000
WIDE = {"width": 1280, "height": 900}
PAGE_MS = 1000 * PATIENCE_S
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
    apis: list[Api]

    @property
    def urls(self) -> list[str]:
        """Where the workers serve the page."""
        return [api.url for api in self.apis]

    def of_user(self, user: str, what: str, **query: object) -> Any:
        """Return what the first worker says of a user."""
        return _good(self.apis[0].of_user(user, what, **query))

    def workers(self) -> Any:
        """Return what the first worker says of the group."""
        return _good(self.apis[0].ask("/v1/workers"))


def _good(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return answer.said


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
