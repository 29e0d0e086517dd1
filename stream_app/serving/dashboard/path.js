// How the vector moved, event by event, on the plane on which it moved most.

import { frame, widthOf } from "./charts.js";
import { svg } from "./dom.js";
import { called, clipped, percent, utc } from "./format.js";
import { colourOf } from "./timeline.js";

const MARGIN = 26;

/** One scale for both axes: the distances are what the plane is there for. */
function plane(places, width, height) {
  const xs = places.map((place) => place.x);
  const ys = places.map((place) => place.y);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min(
    (width - 2 * MARGIN) / Math.max(right - left, 1e-9),
    (height - 2 * MARGIN) / Math.max(high - low, 1e-9),
    1e6,
  );
  return {
    x: (place) => width / 2 + (place.x - (left + right) / 2) * scale,
    y: (place) => height / 2 - (place.y - (low + high) / 2) * scale,
  };
}

/** As high as the places are for this width, within reason. */
function heightFor(places, width) {
  const span = (axis) => Math.max(...places.map(axis)) - Math.min(...places.map(axis));
  const ratio = span((place) => place.y) / Math.max(span((place) => place.x), 1e-9);
  return Math.round(Math.min(380, Math.max(200, ratio * (width - 2 * MARGIN) + 2 * MARGIN)));
}

/** Names beside the landmarks, where they do not run into one another. */
function names(landmarks, at, width) {
  const taken = [];
  return landmarks.map((item) => {
    const [x, y] = [at.x(item), at.y(item)];
    if (taken.some(([tx, ty]) => Math.abs(ty - y) < 13 && Math.abs(tx - x) < 150)) return null;
    taken.push([x, y]);
    const onTheLeft = x > width / 2;
    return svg("text", { x: x + (onTheLeft ? -9 : 9), y: y + 4, class: `tick name${onTheLeft ? " end" : ""}` },
      clipped(item.text || item.item_id, 22));
  });
}

function steps(points, at) {
  return points.slice(1).map((point, index) => {
    const before = points[index];
    const age = (index + 1) / points.length;
    return svg("line", {
      x1: at.x(before), y1: at.y(before), x2: at.x(point), y2: at.y(point),
      class: "step", "stroke-opacity": (0.2 + 0.7 * age).toFixed(2),
    });
  });
}

export function drawPath(node, { points, landmarks }, pick) {
  const width = widthOf(node);
  const places = [...points, ...landmarks];
  const height = heightFor(places, width);
  const at = plane(places, width, height);
  const marks = landmarks.map((item) =>
    svg("rect", { x: at.x(item) - 4, y: at.y(item) - 4, width: 8, height: 8, class: "landmark" },
      svg("title", {}, `${item.text || item.item_id}: ${item.score.toFixed(3)}`)));
  const dots = points.map((point, index) =>
    svg(
      "circle",
      {
        cx: at.x(point), cy: at.y(point), r: index === points.length - 1 ? 8 : 5,
        class: `event ${colourOf(point.type)}${index === points.length - 1 ? " newest" : ""}`,
        "data-event": point.event_id, click: () => pick(point.event_id),
      },
      svg("title", {}, `${index + 1}. ${utc(point.time_ms)} ${point.type}: ${called(point)}`),
    ));
  const turned = points.reduce((most, point) => (point.turn > most.turn ? point : most), points[0]);
  const said = `The vector after each of ${points.length} events on a plane, with the ${landmarks.length} nearest items. `
    + `It turned most at ${turned.type} ${called(turned)}.`;
  node.replaceChildren(frame(width, height, said, ...steps(points, at), ...names(landmarks, at, width), ...marks, ...dots));
}

/** What the plane shows and what it does not. */
export function pathNote({ points, landmarks, explained }) {
  const shown = explained.reduce((sum, share) => sum + share, 0);
  const places = landmarks.length ? "; squares are the nearest items" : "";
  return `the vector after each of ${points.length} events, the newest largest; the plane shows `
    + `${percent(Math.min(1, shown))} of the movement${places}`;
}
