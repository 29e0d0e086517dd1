// The list of events by contribution: one tab stop, arrow keys inside.

import { byId, el } from "./dom.js";
import { called, percent } from "./format.js";
import { colourOf } from "./timeline.js";

/** `pick` is called with the id of the event that is chosen. */
export function fillWhy(events, pick) {
  const most = Math.max(1e-9, ...events.map((event) => event.contribution));
  const ranked = events.toSorted((one, other) => other.contribution - one.contribution);
  const list = byId("why");
  list.replaceChildren(...ranked.map((event, at) => {
    const bar = el("span", { class: `bar-fill ${colourOf(event.type)}` });
    bar.style.inlineSize = `${(event.contribution / most) * 100}%`;
    return el(
      "li",
      {
        role: "option", tabindex: at ? -1 : 0, "aria-selected": "false", "data-event": event.event_id,
        click: () => pick(event.event_id),
      },
      el("span", { class: `dotted ${colourOf(event.type)}` }, event.type),
      el("span", { class: "why-name" }, called(event, 80)),
      el("span", { class: "number" }, percent(event.contribution)),
      el("span", { class: "bar-track", "aria-hidden": "true" }, bar),
    );
  }));
  list.onkeydown = (key) => moved(key, pick);
}

function moved(key, pick) {
  const rows = [...byId("why").children];
  const at = rows.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1, Enter: at, " ": at }[key.key];
  if (to === undefined || at < 0) return;
  key.preventDefault();
  const row = rows[Math.max(0, Math.min(rows.length - 1, to))];
  pick(row.dataset.event);
  row.focus();
}

/** Mark an event wherever it is drawn. */
export function picked(eventId) {
  for (const node of byId("user-answer").querySelectorAll("[data-event]")) {
    const is = node.dataset.event === eventId;
    node.classList.toggle("picked", is);
    if (node.getAttribute("role") === "option") {
      node.setAttribute("aria-selected", String(is));
      node.tabIndex = is ? 0 : -1;
      if (is) keepInView(node);
    }
  }
}

/** Scrolls the list only, never the page. */
function keepInView(row) {
  const list = row.parentElement;
  const [above, below] = [row.offsetTop, row.offsetTop + row.offsetHeight];
  if (above < list.scrollTop) list.scrollTop = above;
  else if (below > list.scrollTop + list.clientHeight) list.scrollTop = below - list.clientHeight;
}
