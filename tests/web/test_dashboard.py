"""The dashboard in a real browser, before two real workers on a real Kafka."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.harness.api import TOKEN
from tests.harness.dashboard import CATALOGUE, MARKUP, PAGE_MS, USERS, Looks, Served
from tests.harness.load import Load

pytestmark = pytest.mark.broker

LOAD = Load(events=3_000, users=40, seed=5, poison=0.02)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
NARROW = "() => document.scrollingElement.scrollWidth <= window.innerWidth"

expect.set_options(timeout=PAGE_MS)


def tile(page: Page, name: str) -> str:
    """Return what a tile says."""
    return page.locator(".tile", has=page.get_by_text(name, exact=True)).locator("dd").inner_text()


def number(text: str) -> float:
    """Return the first number in what the page shows."""
    found = re.search(r"[+−-]?[\d,.]+", text)
    assert found is not None, text
    return float(found[0].replace(",", "").replace("−", "-"))


def kept(page: Page) -> list[Any]:
    """Return what the page has put into the browser's stores."""
    stores: list[Any] = page.evaluate("[{...sessionStorage}, {...localStorage}, document.cookie]")
    return stores


def test_a_wrong_token_is_refused_and_the_right_one_stays_in_the_tab(
    looks: Looks, served: Served
) -> None:
    page = looks.page
    page.goto(served.urls[0])
    field = page.get_by_label("API token")
    expect(field).to_be_focused()
    field.fill("another-token-of-some-length")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="does not take this token")).to_be_visible()
    expect(page.get_by_role("heading", name="Live")).to_be_hidden()
    expect(page.get_by_role("navigation")).to_be_hidden()
    assert kept(page) == [{}, {}, ""]
    looks.expect_complaints("401")
    looks.picture("door")
    field.fill("tokén with a space")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="no spaces")).to_be_visible()
    field.fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#workers tr")).to_have_count(2)
    assert kept(page) == [{"interest-stream.token": TOKEN}, {}, ""]
    assert TOKEN not in page.url
    page.reload()
    expect(page.locator("#workers tr")).to_have_count(2)
    page.get_by_role("button", name="Forget token").click()
    expect(field).to_be_visible()
    assert kept(page) == [{}, {}, ""]


def test_it_follows_the_events_while_they_flow(looks: Looks, served: Served) -> None:
    page = looks.enter(served.urls[0])
    expect(page.locator("#workers tr")).to_have_count(2)
    expect(page.locator("#partitions .cell")).to_have_count(served.stream.settings.partitions)
    assert tile(page, "Dead letters") == "0"
    messages = LOAD.messages()
    feeder = served.stream.feed(messages, over_s=3)
    page.wait_for_function(
        "() => Number(document.querySelector('#tiles dd').textContent.replace(',', '')) > 100"
    )
    expect(page.locator("#rates-chart path.line.one")).to_have_attribute("d", re.compile("L"))
    looks.picture("live")
    feeder.finish()
    poison = sum((message.key or b"").startswith(b"poison-") for message in messages)
    assert poison > 20
    letters = page.locator(".tile", has=page.get_by_text("Dead letters", exact=True)).locator("dd")
    expect(letters).to_have_text(str(poison))
    lag = page.locator(".tile", has=page.get_by_text("Lag", exact=True)).locator("dd")
    expect(lag).to_have_text("0")
    rows = page.locator("#reasons .bar-row").all_inner_texts()
    shown = dict(row.split("\n") for row in rows)
    told = [worker["status"]["dead_letters"] for worker in served.workers()["workers"]]
    reasons = {reason for each in told for reason in each["by_reason"]}
    assert {reason: int(count) for reason, count in shown.items()} == {
        reason: sum(each["by_reason"].get(reason, 0) for each in told) for reason in reasons
    }
    assert len(reasons) > 3
    assert sum(map(int, shown.values())) == poison
    expect(page.locator("#letters tr")).to_have_count(20)
    states = page.locator("#workers .state").all_inner_texts()
    assert states == ["running", "running"]
    # A worker measures, so the page shows it: events on their way took some time.
    expect(page.get_by_role("img", name=re.compile("Median and 99th percentile"))).to_be_visible()
    assert number(tile(page, "Event to update")) > 0
    expect(page.get_by_text("Complete: every window")).to_be_visible()
    # The rate falls back by itself when nothing comes any more.
    events = page.locator(".tile", has=page.get_by_text("Events/s", exact=True)).locator("dd")
    expect(events).to_have_text("0")


@pytest.mark.parametrize("user", USERS)
def test_the_explorer_shows_what_the_api_knows(looks: Looks, served: Served, user: str) -> None:
    page = looks.enter(served.urls[0])
    looks.explore(user)
    interest = served.of_user(user, "interest")
    held = interest["events"]
    assert len(held) == len(CATALOGUE) + 1
    ranked = sorted(held, key=lambda event: event["contribution"], reverse=True)
    options = page.locator("#why").get_by_role("option")
    expect(options).to_have_count(len(held))
    shares = [number(text) for text in options.locator(".number").all_inner_texts()]
    assert shares == pytest.approx([100 * event["contribution"] for event in ranked], abs=0.51)
    assert sum(shares) == pytest.approx(100, abs=0.5 * len(shares))
    expect(page.locator("#timeline circle")).to_have_count(len(held))
    expect(page.locator("#path circle")).to_have_count(len(held))
    neighbours = served.of_user(user, "neighbours", k=10)["items"]
    names = page.locator("#near .near-name").all_inner_texts()
    for shown, item in zip(names, neighbours, strict=True):
        assert shown.startswith((item["text"] or item["item_id"])[:60])
    scores = [number(text) for text in page.locator("#near .number").all_inner_texts()]
    assert scores == pytest.approx([item["score"] for item in neighbours], abs=1e-3)
    weights = page.locator("#weights .bar-row").all_inner_texts()
    for row, granularity in zip(weights, interest["granularities"], strict=True):
        assert row.startswith(granularity["name"])
        assert number(row.split("\n")[1]) == pytest.approx(100 * granularity["weight"], abs=0.51)
    source = interest["provenance"]
    where = f"{source['topic']} {source['partition']}:{source['applied_offset']}"
    expect(page.locator("#provenance")).to_contain_text(where)
    assert MARKUP in page.locator("main").inner_text()
    assert page.locator("main img").count() == 0
    assert page.title() == f"{user} – interest-stream"
    looks.picture(f"explorer-{USERS.index(user)}")


def test_everything_is_reached_by_keys(looks: Looks, served: Served) -> None:
    page = looks.enter(served.urls[1])
    page.keyboard.press("/")
    expect(page.get_by_label("User id")).to_be_focused()
    page.keyboard.type("alice")
    page.keyboard.press("Enter")
    options = page.locator("#why").get_by_role("option")
    expect(options.first).to_have_attribute("aria-selected", "true")
    for _ in range(4):  # number, check box, button, the list
        page.keyboard.press("Tab")
    expect(options.first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(options.nth(1)).to_be_focused()
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    expect(options.first).to_have_attribute("aria-selected", "false")
    picked = options.nth(1).get_attribute("data-event")
    marked = page.locator("circle.picked")
    expect(marked).to_have_count(2)  # in the window and on the way
    assert [dot.get_attribute("data-event") for dot in marked.all()] == [picked, picked]
    expect(page.locator("#event")).to_contain_text(str(picked))
    page.keyboard.press("End")
    expect(options.last).to_be_focused()
    page.keyboard.press("g")
    expect(page.get_by_role("heading", name="Live")).to_be_focused()


def test_a_user_without_a_window_is_said_and_the_next_one_shown(
    looks: Looks, served: Served
) -> None:
    page = looks.enter(served.urls[0])
    page.goto(f"{served.urls[0]}/#/users/nobody")
    expect(page.locator("#user-said")).to_contain_text("no window of user 'nobody'")
    expect(page.locator("#user-answer")).to_be_hidden()
    assert len(looks.complaints) == 1, "the worker is asked once"
    looks.expect_complaints("404")
    looks.explore("bob")
    page.get_by_label("not in the window").check()
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#near .tag")).to_have_count(0)
    unseen = served.of_user("bob", "neighbours", k=10, unseen="true")["items"]
    expect(page.locator("#near li")).to_have_count(len(unseen))
    page.go_back()
    expect(page.locator("#user-answer")).to_be_hidden()
    page.go_back()
    expect(page.locator("#user-said")).to_contain_text("no window of user 'nobody'")
    looks.expect_complaints("404")


@pytest.mark.parametrize("looks", [PHONE], indirect=True, ids=["390px"])
def test_a_phone_needs_no_sideways_scrolling(looks: Looks, served: Served) -> None:
    page = looks.enter(served.urls[0])
    expect(page.locator("#lag-chart svg")).to_be_visible()
    assert page.evaluate(NARROW)
    looks.picture("live-phone")
    looks.explore("alice")
    expect(page.locator("#path svg")).to_be_visible()
    assert page.evaluate(NARROW)
    looks.picture("explorer-phone")


@pytest.mark.parametrize("looks", [{"color_scheme": "dark"}], indirect=True, ids=["dark"])
def test_it_is_dark_where_the_system_is_unless_told_otherwise(looks: Looks, served: Served) -> None:
    page = looks.enter(served.urls[0])

    def brightness() -> int:
        shade: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", shade)[:3]))

    dark = brightness()
    looks.picture("live-dark")
    page.get_by_label("Theme").select_option("light")
    light = brightness()
    assert dark < 150
    assert light > 600
    page.reload()
    assert brightness() == light
    page.emulate_media(color_scheme="light")
    page.get_by_label("Theme").select_option("dark")
    assert brightness() == dark


def test_a_worker_that_does_not_answer_is_said_until_it_does(looks: Looks, served: Served) -> None:
    looks.page.clock.install()  # the page waits longer and longer; the test need not
    page = looks.enter(served.urls[0])
    page.route("**/v1/workers", lambda route: route.abort())
    page.clock.fast_forward(2_000)
    notice = page.get_by_role("alert").filter(has_text="cannot be reached")
    expect(notice).to_be_visible()
    page.unroute("**/v1/workers")
    page.clock.fast_forward(30_000)
    expect(notice).to_be_hidden()
    looks.expect_complaints("ERR_FAILED")
    answers = [429, 401]
    page.route("**/v1/workers", lambda route: route.fulfill(status=answers.pop(0), body="{}"))
    page.clock.fast_forward(2_000)
    expect(page.get_by_role("alert").filter(has_text="429")).to_be_visible()
    page.clock.fast_forward(30_000)
    expect(page.get_by_text("no longer takes this token")).to_be_visible()
    looks.expect_complaints("429", "401")
    assert kept(page)[0] == {}


def test_lag_and_recovery_are_shown_as_the_workers_tell_them(looks: Looks, served: Served) -> None:
    """What a worker on an idle machine is hardly ever seen to say."""
    answer = served.workers()
    first, second = (worker["status"] for worker in answer["workers"])
    lags = {each["partition"]: 1_000 * at + 3 for at, each in enumerate(first["partitions"])}
    for each in first["partitions"]:
        each["lag"] = lags[each["partition"]]
    first["lag"] = sum(lags.values())
    second |= {"state": "rebalancing", "lag": 7}
    began_ms = second["time_ms"] - 65_000
    second["recovery"] = {"active": True, "since_ms": began_ms, "remaining": {"12": 5_000, "3": 80}}
    page = looks.page
    page.clock.install()
    page.route("**/v1/workers", lambda route: route.fulfill(json=answer))
    looks.enter(served.urls[0])
    assert number(tile(page, "Lag")) == first["lag"] + 7
    rows = page.locator("#workers tr")
    expect(rows.nth(0)).to_contain_text(f"{first['lag']:,}")
    expect(rows.nth(1).locator(".state")).to_have_text("rebalancing")
    cells = page.locator("#partitions .held").nth(0).locator(".cell")
    shown = dict(zip(cells.locator("b").all_inner_texts(), cells.all(), strict=True))
    for partition, lag in lags.items():
        cell = shown[str(partition)]
        expect(cell.locator("span").first).to_have_text(f"{lag:,}")
        level = 1 if lag < 10 else 3
        expect(cell).to_have_class(f"cell level-{level}")
    recovery = page.locator("#recovery")
    expect(recovery).to_contain_text("windows are being restored")
    expect(recovery.locator(".bar-row").nth(1)).to_contain_text("5,000 left")
    second["recovery"]["remaining"] = {"12": 1_250, "3": 0}
    second["time_ms"] += 2_000
    page.clock.fast_forward(2_000)
    expect(recovery.locator(".bar-row").nth(1)).to_contain_text("1,250 left")
    expect(recovery.locator(".bar-row").nth(1)).to_have_attribute("title", re.compile(r"^75\s%$"))
    looks.picture("recovery")


def test_what_had_no_room_among_the_items_is_said(looks: Looks, served: Served) -> None:
    found = served.of_user("bob", "neighbours", k=10) | {"items_held": 3, "items_evicted": 1_234}
    page = looks.enter(served.urls[0])
    page.route("**/neighbours*", lambda route: route.fulfill(json=found))
    looks.explore("bob")
    expect(page.locator("#near-note")).to_contain_text("of 3 items, 1,234 had no room")


def test_accounts_of_several_workers_are_put_together(looks: Looks, served: Served) -> None:
    page = looks.enter(served.urls[0])
    answer = served.workers()
    first, second = answer["workers"]
    first["status"] |= {
        "rates": rates([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]),
        "latency": [{"stage": "total", "count": 3, "p50_ms": 2.0, "p99_ms": 9.0}],
        "dead_letters": {"total": 3, "by_reason": {"not-json": 3}, "last": [{"time_ms": 5}]},
        "recovery": {"active": False, "since_ms": None, "remaining": {}},
        "lag": 7,
    }
    second["status"] |= {
        "rates": rates([10.0], [5.0]),
        "latency": [{"stage": "total", "count": 1, "p50_ms": 4.0, "p99_ms": 5.0}],
        "dead_letters": {
            "total": 5, "by_reason": {"not-json": 1, "too-large": 4}, "last": [{"time_ms": 6}],
        },
        "recovery": {"active": True, "since_ms": 9, "remaining": {"12": 5, "3": 8}},
        "lag": 1,
    }  # fmt: skip
    third = {"url": None, "partitions": [], "is_this": False, "status": None, "error": "gone"}
    merged = page.evaluate(
        "async (answer) => (await import('/dashboard/merge.js')).merged(answer)",
        {"workers": [first, second, third]},
    )
    assert merged["rates"]["events"] == [1, 2, 13]
    assert merged["rates"]["updates"] == [1, 1, 6]
    assert merged["lag"] == 8
    assert merged["latency"] == [{"stage": "total", "count": 4, "p50_ms": 4, "p99_ms": 9}]
    assert merged["deadLetters"] == {
        "total": 8,
        "byReason": [["not-json", 4], ["too-large", 4]],
        "last": [{"time_ms": 6}, {"time_ms": 5}],
    }
    assert merged["recovery"] == {"active": True, "since_ms": 9, "remaining": [[3, 8], [12, 5]]}
    assert merged["silent"] == [third]
    nobody = page.evaluate(
        "async (answer) => (await import('/dashboard/merge.js')).merged(answer)",
        {"workers": [third]},
    )
    assert nobody["rates"]["events"] == nobody["latency"] == []
    assert nobody["lag"] == nobody["partitions"] == 0


def rates(events: list[float], updates: list[float]) -> dict[str, Any]:
    """Return the rates of a worker that buried nothing."""
    nothing = [0.0 for _ in events]
    return {
        "interval_s": 1.0, "events_per_s": events, "updates_per_s": updates,
        "dead_letters_per_s": nothing,
    }  # fmt: skip
