"""Two real workers with an API, and a real browser that looks at what they serve."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from stream_app.topics import partition_of
from tests.harness import chromium
from tests.harness.api import start_with_api
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.client import KafkaClient
from tests.harness.dashboard import CATALOGUE, USERS, WIDE, Looks, Served, of_users
from tests.harness.deadline import eventually
from tests.harness.load import Load, event_message, item_message
from tests.harness.stream import Stream


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Where the browser is."""
    path = chromium.find()
    if path is None:
        pytest.skip(chromium.ABSENT)
    return path


@pytest.fixture(scope="module")
def served(
    browser_path: str, client: KafkaClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Two workers that share the users, with a past behind them; verified at the end."""
    folder = tmp_path_factory.mktemp("dashboard")
    stream = Stream(client, folder, SESSION_TIMEOUT_S)
    stream.create_topics()
    try:
        stream.publish([item_message(item, text) for item, text in CATALOGUE.items()])
        stream.publish(Load().catalogue())
        found = Served(stream, [start_with_api(stream), start_with_api(stream)])
        stream.wait_shared(stream.workers)
        stream.send([event_message(event) for event in of_users()])
        stream.drain()
        eventually(
            lambda: all(found.of_user(user, "neighbours")["complete"] for user in USERS),
            what="item vectors read",
        )  # fmt: skip
        partitions = {partition_of(user.encode(), stream.settings.partitions) for user in USERS}
        for worker in stream.workers:
            assert worker.partitions() & partitions, "each worker holds some of the users"
        yield found
        stream.verify()
    finally:
        stream.close()


@pytest.fixture(scope="module")
def browser(browser_path: str, served: Served) -> Iterator[Browser]:
    """A browser. While it is open an event loop runs in this thread, so the broker's client, which
    has a loop of its own, works before and after it only.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path)
        yield browser
        browser.close()


@pytest.fixture
def looks(browser: Browser, served: Served, request: pytest.FixtureRequest) -> Iterator[Looks]:
    """A page that must not complain, and asks nobody but the worker it came from."""
    request.node.streams = [served.stream]
    options = getattr(request, "param", {})
    context = browser.new_context(**{"viewport": WIDE, **options})  # stores of its own
    looks = Looks(context.new_page())
    yield looks
    context.close()
    assert looks.complaints == []
    assert looks.hosts <= {url.removeprefix("http://") for url in served.urls}
