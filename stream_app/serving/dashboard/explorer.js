// The explorer: one user's window, vector, nearest items, its movement, and why.

import { Refused, ask, ofUser } from "./api.js";
import { barRow, byId, el, facts, fill } from "./dom.js";
import { called, cosine, count, duration, percent, utc } from "./format.js";
import { drawPath, pathNote } from "./path.js";
import { colourOf, drawTimeline } from "./timeline.js";
import { fillWhy, picked } from "./why.js";

let shown = null;
let asked = 0;

/** Ask for a user and show what comes; an answer that was overtaken is dropped. */
export async function explore(userId, k, unseen) {
  asked += 1;
  const mine = asked;
  say(`Asking for ${userId} …`);
  byId("users").setAttribute("aria-busy", "true");
  try {
    if (/^\.{1,2}$/.test(userId)) {  // a browser takes these for steps in the path, however encoded
      throw new Refused(0, "bad-request", `a browser cannot ask for the user id '${userId}'`, 0);
    }
    const interest = await ask(ofUser(userId, "interest"));  // whoever has none is asked for once, not thrice
    const [neighbours, history] = await Promise.all([
      ask(ofUser(userId, `neighbours?k=${k}&unseen=${unseen}`)).catch((error) => error),
      ask(ofUser(userId, "history")).catch((error) => error),
    ]);
    if (mine === asked) show({ interest, neighbours, history });
  } catch (error) {
    if (mine !== asked) return;
    byId("user-answer").hidden = true;
    shown = null;
    if (!(error instanceof Refused)) throw error;
    const again = error.retryAfterS ? ` Try again in ${error.retryAfterS} s.` : "";
    say(error.message + again);
    if (error.status === 401) throw error;
  } finally {
    if (mine === asked) byId("users").removeAttribute("aria-busy");
  }
}

/** Forget who is shown: the token is gone, or another user is asked for. */
export function clearExplorer() {
  asked += 1;
  shown = null;
  byId("user-answer").hidden = true;
  say("");
}

export function redrawExplorer() {
  if (shown) draw();
}

function say(words) {
  byId("user-said").textContent = words;
}

function show(answers) {
  shown = { ...answers, picked: null };
  const { interest } = answers;
  byId("user-answer").hidden = false;
  byId("who").textContent = interest.user_id;
  say(`${interest.user_id}: ${interest.events.length} events in the window.`);
  fill("provenance", facts(provenance(interest)));
  fill("weights", interest.granularities.map((each) =>
    barRow(each.name, each.weight, `${percent(each.weight)} · cos ${cosine(each.similarity)}`)));
  near(answers.neighbours);
  fillWhy(interest.events, pick);
  draw();
  const most = interest.events.reduce(
    (best, event) => (event.contribution > best.contribution ? event : best), interest.events[0]);
  if (most) pick(most.event_id);
}

/** The charts, at the width there is now. */
function draw() {
  const { interest, history } = shown;
  const timeline = byId("timeline");
  if (interest.events.length) drawTimeline(timeline, interest.events, pick);
  else timeline.replaceChildren(el("p", { class: "nothing" }, "The window is empty."));
  const drawable = !(history instanceof Error) && history.points.length > 0;
  byId("path-note").textContent = drawable ? pathNote(history) : "";
  if (drawable) drawPath(byId("path"), history, pick);
  else fill("path", el("p", { class: "nothing" }, history instanceof Error ? history.message : "Not moved yet."));
  if (shown.picked) picked(shown.picked);
}

function provenance({ counts, events, vector, time_ms, provenance: from }) {
  const everything = Object.entries(counts).map(([type, number]) => `${count(number)} ${type}`).join(", ");
  return [
    ["newest event", events.length ? `${utc(time_ms)} UTC` : null],
    ["all time", everything],
    ["vector", `${vector.length} dimensions`],
    ["model", from.model_id],
    ["source", `${from.topic} ${from.partition}:${from.applied_offset}`],
    ["partition read to", count(from.folded_offset)],
    ["held by", from.worker.replace(/^https?:\/\//, "")],
  ];
}

function near(answer) {
  if (answer instanceof Error) {
    byId("near-note").textContent = answer.message;
    fill("near");
    return;
  }
  const read = answer.complete ? "" : "; not all are read yet";
  const evicted = answer.items_evicted ? `, ${count(answer.items_evicted)} had no room` : "";
  byId("near-note").textContent = `by dot product, of ${count(answer.items_held)} items${evicted}${read}`;
  fill("near", answer.items.map((item) => {
    const bar = el("span", { class: "bar-fill" });
    bar.style.inlineSize = `${Math.max(0, Math.min(1, item.score)) * 100}%`;
    return el(
      "li", {},
      el("span", { class: "near-name" }, called(item, 90), item.in_window ? el("span", { class: "tag" }, "in the window") : null),
      el("span", { class: "number" }, cosine(item.score)),
      el("span", { class: "bar-track", "aria-hidden": "true" }, bar),
      item.text ? el("span", { class: "code dim" }, item.item_id) : null,
    );
  }));
}

function pick(eventId) {
  const event = shown.interest.events.find((each) => each.event_id === eventId);
  if (!event) return;
  shown.picked = eventId;
  picked(eventId);
  const points = shown.history instanceof Error ? [] : shown.history.points;
  const point = points.find((each) => each.event_id === eventId);
  fill("event", facts([
    ["type", el("span", { class: `dotted ${colourOf(event.type)}` }, event.type)],
    ["time", `${utc(event.time_ms)} UTC`],
    ["item", event.item_id],
    ["text", event.text ?? (event.known ? null : "none known, so it adds nothing")],
    ["contribution", `${percent(event.contribution)} (without it the vector turns by ${event.turn.toPrecision(2)})`],
    ["similarity", `${cosine(event.similarity)} between its text and the vector`],
    ["turned by it", point ? point.turn.toPrecision(2) : null],
    ["session", event.session_id],
    ["looked for", event.dwell_ms === null ? null : duration(event.dwell_ms)],
    ["event id", event.event_id],
  ]));
}
