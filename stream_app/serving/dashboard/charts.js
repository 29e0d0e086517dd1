// Charts as inline SVG, drawn at the width there is, so that text keeps its size.

import { svg } from "./dom.js";

const SMALLEST_WIDTH = 260;

export function widthOf(node) {
  return Math.max(SMALLEST_WIDTH, Math.floor(node.clientWidth));
}

/** 1, 2 or 5 times a power of ten: the step of an axis with about `wanted` of them. */
export function niceStep(most, wanted) {
  const rough = most / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
}

export function frame(width, height, said, ...children) {
  return svg(
    "svg",
    { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said },
    ...children,
  );
}

function horizontals(top, height, left, right, most, step, format) {
  const lines = [];
  for (let value = 0; value <= most + step / 1e6; value += step) {
    const y = top + height - (value / most) * height;
    lines.push(
      svg("line", { x1: left, x2: right, y1: y, y2: y, class: value ? "grid-line" : "axis" }),
      svg("text", { x: left - 6, y: y + 4, class: "tick end" }, format(value)),
    );
  }
  return lines;
}

function path(values, slots, x, y) {
  const first = slots - values.length;
  return values.map((value, at) => `${at ? "L" : "M"}${x(first + at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}

/**
 * Lines over time, the newest at the right edge.
 * `lines`: {name, values, kind}; `slots`: values there is room for, `ago(slot)` names that time;
 * `whole`: there is nothing between two numbers.
 */
export function lineChart(node, { lines, slots, ago, format, said, whole = false, height = 180 }) {
  const width = widthOf(node);
  const box = { left: 46, right: width - 10, top: 10, bottom: height - 22 };
  const peak = Math.max(1, ...lines.flatMap((line) => line.values));
  const step = Math.max(whole ? 1 : 0, niceStep(peak, 4));
  const most = Math.ceil(peak / step) * step;
  const x = (slot) => box.left + (slot / Math.max(1, slots - 1)) * (box.right - box.left);
  const y = (value) => box.bottom - (value / most) * (box.bottom - box.top);
  const drawn = lines.filter((line) => line.values.length).flatMap((line) => {
    const line_ = path(line.values, slots, x, y);
    const newest = line.values.at(-1);
    const area = `${line_}L${box.right} ${box.bottom}L${x(slots - line.values.length)} ${box.bottom}Z`;
    return [
      line.filled ? svg("path", { d: area, class: `area ${line.kind}` }) : null,
      svg("path", { d: line_, class: `line ${line.kind}` }),
      svg("circle", { cx: box.right, cy: y(newest), r: 3.5, class: `dot ${line.kind}` }),
    ];
  });
  const times = [0, (slots - 1) / 2, slots - 1].map((slot, at) =>
    svg("text", { x: x(slot), y: height - 5, class: `tick ${["", "middle", "end"][at]}` }, ago(slot)),
  );
  const grid = horizontals(box.top, box.bottom - box.top, box.left, box.right, most, step, format);
  node.replaceChildren(frame(width, height, said, ...grid, ...drawn, ...times));
}

/** Two values a row on one logarithmic axis: the filled dot and, not before it, the open one. */
export function dumbbells(node, { rows, format, said }) {
  const width = widthOf(node);
  const rowHeight = 28;
  const box = { left: 108, right: width - 98, top: 6, bottom: 6 + rows.length * rowHeight };
  const low = -1;
  const high = Math.max(2, Math.ceil(Math.log10(Math.max(...rows.map((row) => row.far), 1))));
  const x = (value) => {
    const at = (Math.log10(Math.max(value, 0.1)) - low) / (high - low);
    return box.left + Math.min(1, Math.max(0, at)) * (box.right - box.left);
  };
  const ticks = [];
  for (let power = low; power <= high; power += 1) {
    const at = x(10 ** power);
    ticks.push(
      svg("line", { x1: at, x2: at, y1: box.top, y2: box.bottom, class: "grid-line" }),
      svg("text", { x: at, y: box.bottom + 16, class: "tick middle" }, format(10 ** power)),
    );
  }
  const drawn = rows.flatMap((row, at) => {
    const y = box.top + (at + 0.5) * rowHeight;
    const kind = row.strong ? "dumbbell strong" : "dumbbell";
    return [
      svg("text", { x: 0, y: y + 4, class: row.strong ? "label strong" : "label" }, row.name),
      svg("line", { x1: x(row.near), x2: x(row.far), y1: y, y2: y, class: kind }),
      svg("circle", { cx: x(row.near), cy: y, r: 5, class: `${kind} near` }),
      svg("circle", { cx: x(row.far), cy: y, r: 5, class: `${kind} far` }),
      svg("text", { x: width, y: y + 4, class: "tick end" }, `${format(row.near)} · ${format(row.far)}`),
    ];
  });
  node.replaceChildren(frame(width, box.bottom + 22, said, ...ticks, ...drawn));
}
