// Numbers and times as a person reads them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: "UTC" });

/** 1,234; from a million on 1.23M. */
export function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return Math.abs(value) < 1e6 ? whole.format(value) : short.format(value);
}

/** A rate, with decimals only where it is small. */
export function rate(value) {
  if (!Number.isFinite(value)) return "–";
  return value > 0 && value < 10 ? value.toFixed(1) : count(value);
}

export function milliseconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} s`;
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  for (; size >= 1000 && unit < units.length - 1; unit += 1) size /= 1000;
  return `${size < 10 && unit ? size.toFixed(1) : size.toFixed(0)} ${units[unit]}`;
}

export function percent(share) {
  const of100 = share * 100;
  if (of100 > 0 && of100 < 0.1) return "<0.1 %";
  return `${of100 > 0 && of100 < 10 ? of100.toFixed(1) : of100.toFixed(0)} %`;
}

export function cosine(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

/** A span of time in its two largest units. */
export function duration(ms) {
  let left = Math.max(0, Math.round(ms / 1000));
  const parts = [];
  for (const [unit, seconds] of [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]]) {
    if (left >= seconds && parts.length < 2) {
      parts.push(`${Math.floor(left / seconds)} ${unit}`);
      left %= seconds;
    }
  }
  return parts.join(" ") || "0 s";
}

/** 2026-09-21 11:29:00, UTC as in the logs and in `inspect user`. */
export function utc(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? String(ms) : date.toISOString().slice(0, 19).replace("T", " ");
}

export function utcClock(ms) {
  return clock.format(new Date(ms));
}

/** A text no longer than `most` characters. */
export function clipped(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** What an event or item is called: its text, else its id. */
export function called(thing, most = 60) {
  return clipped(thing.text || thing.item_id || thing.event_id || "", most);
}
