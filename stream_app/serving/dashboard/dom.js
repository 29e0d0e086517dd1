// Elements made of names, attributes and text. Text is only ever set as text, never as markup:
// ids, texts and reasons come from strangers.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element; a function among the attributes listens to the event of that name. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found;
}

/** Put `children` in the place of what is there. */
export function fill(id, ...children) {
  byId(id).replaceChildren(...children.flat());
}

/** Pairs of a word and its value, for a <dl>. */
export function facts(pairs) {
  return pairs
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
}

/** A row with a bar: share 0 to 1 of the width. */
export function barRow(name, share, said, attributes = {}) {
  const bar = el("span", { class: "bar-fill" });
  bar.style.inlineSize = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el(
    "div",
    { class: "bar-row", ...attributes },
    el("span", { class: "bar-name" }, name),
    el("span", { class: "bar-track", "aria-hidden": "true" }, bar),
    el("span", { class: "number" }, said),
  );
}
