// The page: which of its parts is shown, the token, the theme, and the rhythm of asking.

import { Refused, ask, couldBeToken, token } from "./api.js";
import { byId } from "./dom.js";
import { clearExplorer, explore, redrawExplorer } from "./explorer.js";
import { utcClock } from "./format.js";
import { drawLive, redrawLive } from "./live.js";
import { merged } from "./merge.js";

const EVERY_MS = 2000;
const THEME = "interest-stream.theme";

let timer = 0;
let failures = 0;

function partAsked() {
  const [, part, user] = location.hash.split("/");
  return part === "users" ? { part: "users", user: user ? decoded(user) : "" } : { part: "live", user: "" };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Show what the address asks for, or the door where there is no token. */
function route(moved) {
  const open = token.get() !== null;
  const { part, user } = partAsked();
  byId("door").hidden = open;
  byId("nav").hidden = byId("leave").hidden = !open;
  for (const name of ["live", "users"]) byId(name).hidden = !open || name !== part;
  for (const link of byId("nav").children) {
    const here = link.getAttribute("href") === `#/${part}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = open && part === "users" ? `${user || "Explorer"} – interest-stream` : "interest-stream";
  schedule(0);
  if (!open) {
    byId("token").focus();
    return;
  }
  if (part === "users") enterExplorer(user);
  else if (moved) byId("live-title").focus();
}

function enterExplorer(user) {
  byId("user").value = user;
  if (user) show(user);
  else {
    clearExplorer();
    byId("user").focus();
  }
}

function show(user) {
  explore(user, byId("k").value, byId("unseen").checked).catch(turnedAway);
}

/** A token that is refused later on was changed: back to the door. */
function turnedAway(error) {
  if (!(error instanceof Refused) || error.status !== 401) throw error;
  leave("The worker no longer takes this token.");
}

function leave(words) {
  token.forget();
  clearExplorer();
  say("");
  byId("pulse").textContent = "";
  byId("door-error").textContent = words;
  route(false);
}

async function enter(submitted) {
  submitted.preventDefault();
  const given = byId("token").value.trim();
  const error = byId("door-error");
  error.textContent = "";
  if (!couldBeToken(given)) {
    error.textContent = "A token has letters, digits and signs of ASCII, and no spaces.";
    return;
  }
  try {
    await ask("status", given);
  } catch (refused) {
    if (!(refused instanceof Refused)) throw refused;
    error.textContent = refused.status === 401 ? "The worker does not take this token." : `${refused.message}.`;
    byId("token").select();
    return;
  }
  token.keep(given);
  byId("token").value = "";
  route(true);
}

function say(words) {
  byId("notice").textContent = words;
  byId("notice").hidden = !words;
}

function schedule(afterMs) {
  clearTimeout(timer);
  const wanted = token.get() !== null && partAsked().part === "live" && !document.hidden;
  if (wanted) timer = setTimeout(beat, afterMs);
}

/** One account of the group; the longer nothing answers, the rarer the next question. */
async function beat() {
  let waitMs = EVERY_MS;
  try {
    const group = merged(await ask("workers"));
    if (token.get() === null) return;
    failures = 0;
    say("");
    drawLive(group);
    byId("pulse").textContent = `as of ${utcClock(group.time_ms)} UTC`;
    byId("about").textContent = `Version ${group.versions.join(", ")}, model ${group.models.join(", ") || "not loaded"}.`;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) {
      turnedAway(error);
      return;
    }
    failures += 1;
    waitMs = Math.max(error.retryAfterS * 1000, Math.min(30_000, EVERY_MS * 2 ** failures));
    say(`No news: ${error.message}. Asking again.`);
  }
  schedule(waitMs);
}

function theme(chosen) {
  byId("theme").value = chosen;
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
}

function keys(key) {
  const typing = key.target.matches?.("input, select, textarea");
  if (typing || key.ctrlKey || key.metaKey || key.altKey || token.get() === null) return;
  if (key.key === "/") {
    key.preventDefault();
    if (partAsked().part === "users") byId("user").focus();
    else location.hash = "#/users";
  } else if (key.key === "g") location.hash = "#/live";
}

function askedFor(submitted) {
  submitted.preventDefault();
  const user = byId("user").value;
  const hash = `#/users/${encodeURIComponent(user)}`;
  if (location.hash === hash) show(user);
  else location.hash = hash;
}

theme(localStorage.getItem(THEME) ?? "auto");
byId("theme").addEventListener("change", ({ target }) => {
  localStorage.setItem(THEME, target.value);
  theme(target.value);
});
byId("door-form").addEventListener("submit", enter);
byId("user-form").addEventListener("submit", askedFor);
byId("leave").addEventListener("click", () => leave(""));
document.addEventListener("keydown", keys);
document.addEventListener("visibilitychange", () => schedule(0));
window.addEventListener("hashchange", () => route(true));

let width = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (contentRect.width === width) return;
  width = contentRect.width;
  if (!byId("live").hidden) redrawLive();
  if (!byId("users").hidden) redrawExplorer();
}).observe(byId("main"));
route(false);
