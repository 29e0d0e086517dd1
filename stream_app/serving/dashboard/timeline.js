// The window in time: a lane for each type of event.

import { frame, widthOf } from "./charts.js";
import { svg } from "./dom.js";
import { called, duration, percent, utc, utcClock } from "./format.js";

const LANE = 34;
const TYPES = ["view", "click", "purchase", "search", "review"];
const A_DAY_MS = 86_400_000;

/** Types in the order of the docs; a new one is appended. */
export function typesOf(events) {
  const found = new Set(events.map((event) => event.type));
  return [...TYPES.filter((type) => found.has(type)), ...[...found].filter((type) => !TYPES.includes(type))];
}

/** The class that colours a type. */
export function colourOf(type) {
  const at = TYPES.indexOf(type);
  return `type-${at < 0 ? "other" : at}`;
}

function ticks(first, last, x, y, wide) {
  const span = last - first;
  const wanted = wide ? 4 : 2;
  return Array.from({ length: wanted + 1 }, (_, at) => {
    const ms = first + (span * at) / wanted;
    const said = span > 20 * A_DAY_MS ? utc(ms).slice(0, 10) : span > A_DAY_MS ? utc(ms).slice(5, 16) : utcClock(ms);
    const place = at === 0 ? "" : at === wanted ? "end" : "middle";
    return svg("text", { x: x(ms), y, class: `tick ${place}` }, said);
  });
}

/** `pick` is called with the event that is clicked. */
export function drawTimeline(node, events, pick) {
  const types = typesOf(events);
  const width = widthOf(node);
  const box = { left: 78, right: width - 14, bottom: types.length * LANE + 4 };
  const [first, newest] = [events[0].time_ms, events.at(-1).time_ms];
  const last = Math.max(newest, first + 1000);
  const x = (ms) => box.left + 10 + ((ms - first) / (last - first)) * (box.right - box.left - 10);
  const most = Math.max(1e-9, ...events.map((event) => event.contribution));
  const lanes = types.flatMap((type, at) => {
    const y = at * LANE + LANE / 2;
    return [
      svg("line", { x1: box.left, x2: box.right, y1: y, y2: y, class: "grid-line" }),
      svg("text", { x: 0, y: y + 4, class: "label" }, type),
    ];
  });
  const dots = events.map((event) =>
    svg(
      "circle",
      {
        cx: x(event.time_ms), cy: types.indexOf(event.type) * LANE + LANE / 2,
        r: 4 + 9 * Math.sqrt(event.contribution / most),
        class: `event ${colourOf(event.type)}${event.known ? "" : " unknown"}`,
        "data-event": event.event_id, click: () => pick(event.event_id),
      },
      svg("title", {}, `${utc(event.time_ms)} ${event.type}: ${called(event)} (${percent(event.contribution)})`),
    ));
  const said = `${events.length} events of ${types.length} types within ${duration(newest - first)}, `
    + `from ${utc(first)} to ${utc(newest)} UTC. The list named Why has each of them.`;
  node.replaceChildren(
    frame(width, box.bottom + 22, said, ...lanes, ...ticks(first, last, x, box.bottom + 16, width > 560), ...dots));
}
