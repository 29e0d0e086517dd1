// Workers and their partitions.

import { el, fill } from "./dom.js";
import { bytes, count, duration, milliseconds, rate } from "./format.js";

const STATES = { running: "good", starting: "busy", rebalancing: "busy", stopping: "busy" };

export function drawWorkers({ workers }) {
  fill("workers", workers.map((worker) => (worker.status ? speaking(worker) : silent(worker))));
  fill("partitions", workers.map(held));
}

function nameOf({ url, is_this }) {
  const name = (url ?? "without the API").replace(/^https?:\/\//, "");
  return is_this ? `${name} (this one)` : name;
}

function state(word) {
  return el("span", { class: `state ${STATES[word] ?? "bad"}` }, word);
}

function speaking(worker) {
  const status = worker.status;
  const number = (text) => el("td", { class: "number" }, text);
  return el(
    "tr", {},
    el("th", { scope: "row", class: "code" }, nameOf(worker)),
    el("td", {}, state(status.state)),
    number(count(status.partitions.length)),
    number(rate(status.rates.events_per_s.at(-1) ?? 0)),
    number(count(status.lag)),
    number(count(status.users_hot)),
    number(bytes(status.memory_bytes)),
    number(milliseconds(status.loop_lag_ms_p99)),
    el("td", {}, duration(status.time_ms - status.started_ms)),
    el("td", {}, status.model
      ? el("span", { title: `${status.model.dimensions} dimensions, ${status.model.backend} on ${status.model.device}` },
        el("code", {}, status.model.model_id))
      : "not loaded yet"),
  );
}

function silent(worker) {
  return el(
    "tr", {},
    el("th", { scope: "row", class: "code" }, nameOf(worker)),
    el("td", {}, state("silent")),
    el("td", { class: "number" }, count(worker.partitions.length)),
    el("td", { colspan: 7 }, worker.error ?? "says nothing of itself"),
  );
}

/** Darker the more records wait: none, below ten, below a thousand, more. */
function level(lag) {
  if (!lag) return 0;
  return lag < 10 ? 1 : lag < 1000 ? 2 : 3;
}

function held(worker) {
  const known = new Map((worker.status?.partitions ?? []).map((each) => [each.partition, each]));
  const numbers = [...new Set([...worker.partitions, ...known.keys()])].sort((one, other) => one - other);
  const cells = numbers.map((number) => {
    const status = known.get(number);
    const said = status
      ? `lag ${count(status.lag)}, at offset ${count(status.folded_offset)}; ${count(status.users_hot)} users in memory`
      : "nothing known";
    return el(
      "li", { class: `cell level-${status ? level(status.lag) : "none"}`, title: `partition ${number}: ${said}` },
      el("b", {}, String(number)),
      el("span", {}, status ? count(status.lag) : "?"),
      el("span", { class: "hidden" }, ` ${said}`),
    );
  });
  return el(
    "div", { class: "held" },
    el("p", { class: "code" }, nameOf(worker)),
    cells.length ? el("ul", { class: "cells" }, ...cells) : el("p", { class: "nothing" }, "no partition"),
  );
}
