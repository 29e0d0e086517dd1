// The live page: what every worker of the group says of itself, drawn anew every two seconds.

import { dumbbells, lineChart } from "./charts.js";
import { barRow, byId, el, facts, fill } from "./dom.js";
import { count, duration, milliseconds, percent, rate, utc } from "./format.js";
import { drawWorkers } from "./workers.js";

const SLOTS = 60;
const STAGES = {
  broker_wait: "in Kafka", queue: "queue", text: "texts", interest: "interest",
  publish: "publish", total: "event to update",
};

const lags = [];
let drawn = null;

/** Show an account of the group (see merge.js). */
export function drawLive(group) {
  if (group.time_ms !== drawn?.time_ms) {
    lags.push({ time_ms: group.time_ms, lag: group.lag });
    if (lags.length > SLOTS * 5) lags.shift();
  }
  drawn = group;
  tiles(group);
  rates(group);
  lag();
  latency(group);
  letters(group);
  recovery(group);
  drawWorkers(group);
}

/** The same once more, at another width. */
export function redrawLive() {
  if (drawn) drawLive(drawn);
}

function tile(name, value, beside) {
  return el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, value), el("p", {}, beside));
}

function tiles(group) {
  const total = group.latency.find((row) => row.stage === "total");
  const known = group.workers.length;
  const up = known - group.silent.length;
  fill(
    "tiles",
    tile("Events/s", rate(group.rates.events.at(-1) ?? 0), `${rate(group.rates.updates.at(-1) ?? 0)} updates/s`),
    tile("Lag", count(group.lag), group.lag === 1 ? "record" : "records"),
    tile("Event to update", total ? milliseconds(total.p50_ms) : "–", total ? `99 %: ${milliseconds(total.p99_ms)}` : "not measured"),
    tile("Dead letters", count(group.deadLetters.total), `${rate(group.rates.deadLetters.at(-1) ?? 0)} a second`),
    tile("Users in memory", count(group.usersHot), `${count(group.itemsKnown)} items known`),
    tile("Workers", up === known ? count(known) : `${up} of ${known}`, `${group.partitions} partitions held`),
  );
}

function rates({ rates: { events, updates, interval_s } }) {
  lineChart(byId("rates-chart"), {
    lines: [
      { name: "events", values: events, kind: "one", filled: true },
      { name: "updates", values: updates, kind: "two" },
    ],
    slots: SLOTS,
    ago: (slot) => (slot === SLOTS - 1 ? "now" : `−${Math.round((SLOTS - 1 - slot) * interval_s)} s`),
    format: rate,
    said: `Line chart. ${rate(events.at(-1) ?? 0)} events and ${rate(updates.at(-1) ?? 0)} updates a second now; `
      + `at most ${rate(Math.max(0, ...events))} events in the last minute.`,
  });
  byId("rates-chart").append(
    el("p", { class: "legend" }, el("span", { class: "key one" }, "events"), el("span", { class: "key two" }, "updates")),
  );
}

function lag() {
  const values = lags.map((sample) => sample.lag);
  const since = lags.at(-1).time_ms - lags[0].time_ms;
  const slots = Math.max(2, values.length);
  lineChart(byId("lag-chart"), {
    lines: [{ name: "lag", values, kind: "three", filled: true }],
    slots,
    ago: (slot) => (slot === slots - 1 ? "now" : since ? `−${duration((since * (slots - 1 - slot)) / (slots - 1))}` : ""),
    format: count,
    whole: true,
    said: `Line chart. Lag is ${count(values.at(-1))} records now, at most ${count(Math.max(...values))} since this page was opened.`,
  });
}

function latency(group) {
  const several = group.workers.length > 1 ? "; of several workers the slowest" : "";
  byId("latency-note").textContent = `half of all (●) and 99 % (○) take no longer; since the start${several}`;
  if (!group.latency.length) {
    fill("latency-chart", el("p", { class: "nothing" }, "Nothing measured yet."));
    return;
  }
  const rows = group.latency.map((row) => ({
    name: STAGES[row.stage] ?? row.stage, near: row.p50_ms, far: row.p99_ms, strong: row.stage === "total",
  }));
  dumbbells(byId("latency-chart"), {
    rows,
    format: milliseconds,
    said: `Median and 99th percentile by stage: ${rows
      .map((row) => `${row.name} ${milliseconds(row.near)} and ${milliseconds(row.far)}`).join("; ")}.`,
  });
}

function letters({ deadLetters }) {
  const most = deadLetters.byReason[0]?.[1] ?? 1;
  fill(
    "reasons",
    deadLetters.byReason.length
      ? deadLetters.byReason.map(([reason, number]) => barRow(reason, number / most, count(number)))
      : el("p", { class: "nothing" }, "None since the start."),
  );
  fill(
    "letters",
    deadLetters.last.map((letter) =>
      el(
        "tr", {},
        el("td", { class: "time" }, utc(letter.time_ms)),
        el("td", { class: "reason" }, letter.reason),
        el("td", { class: "text" }, letter.detail),
        el("td", { class: "code" }, `${letter.topic} ${letter.partition}:${letter.offset}`),
      )),
  );
  if (!deadLetters.last.length) {
    fill("letters", el("tr", {}, el("td", { colspan: 4, class: "nothing" }, "None.")));
  }
}

const mostLeft = new Map();

function recovery({ recovery: { active, since_ms, remaining }, time_ms }) {
  if (!active) {
    mostLeft.clear();
    fill("recovery", el("p", { class: "fine" }, "Complete: every window of the partitions held is there."));
    return;
  }
  const rows = remaining.map(([partition, left]) => {
    const most = Math.max(left, mostLeft.get(partition) ?? 0);
    mostLeft.set(partition, most);
    const done = most ? 1 - left / most : 1;
    return barRow(`partition ${partition}`, done, `${count(left)} left`, { title: percent(done) });
  });
  const since = since_ms === null ? null : duration(time_ms - since_ms);
  fill("recovery", el("dl", { class: "facts" }, ...facts([["state", "windows are being restored"], ["for", since]])), ...rows);
}
