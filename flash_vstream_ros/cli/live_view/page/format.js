// Stamps, durations and numbers as text.

const TEN_YEARS = 10 * 365 * 86400;

/** Whether a stamp is a date near the present; simulated time starts near zero. */
const isDate = (stamp) => Math.abs(stamp - Date.now() / 1000) < TEN_YEARS;

/** A stamp as local clock time, with the date if it is not today's; simulated time as seconds, which limits accept. */
export function clock(stamp) {
  if (!isDate(stamp)) return `${number(stamp, 1).replaceAll(",", "")} s`;
  const date = new Date(stamp * 1000);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
}

/** An interval of stamps. */
export function span(since, until) {
  return until - since < 1 ? clock(since) : `${clock(since)} – ${clock(until)}`;
}

/** How long ago, in one unit. */
export function ago(seconds) {
  if (seconds < 0.5) return "now";
  return `${length(seconds)} ago`;
}

/** A length of time in one or two units. */
export function length(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${number(seconds / 60, seconds < 600 ? 1 : 0)} min`;
  if (seconds < 172800) return `${number(seconds / 3600, 1)} h`;
  return `${number(seconds / 86400, 1)} days`;
}

/** A latency. */
export function latency(seconds) {
  if (!seconds) return "–";
  return seconds < 1 ? `${number(seconds * 1000, seconds < 0.01 ? 1 : 0)} ms` : `${number(seconds, 2)} s`;
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) [count, unit] = [count / 1000, unit + 1];
  return `${number(count, count < 10 && unit ? 1 : 0)} ${units[unit]}`;
}

export function number(value, digits = 0) {
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

export const percent = (share) => `${Math.round(share * 100)} %`;
