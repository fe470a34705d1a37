// Rates and latencies of the last minutes, and why frames were dropped.

import { byId, el, showText, svg } from "./dom.js";
import { latency, number } from "./format.js";

const POINTS = 180;
const [WIDTH, HEIGHT] = [120, 28];
const rate = (value) => `${number(value, value < 10 ? 2 : 0)} /s`;
const TILES = [
  { name: "Received", of: (point) => point.rates.received, text: rate, more: (s) => `${number(s.frames.received)} frames` },
  { name: "Encoded", of: (point) => point.rates.encoded, text: rate, more: (s) => `${number(s.frames.static)} static` },
  { name: "Dropped", of: (point) => point.rates.dropped, text: rate, more: (s) => `${number(s.frames.dropped)} in all` },
  { name: "Encode a slot", of: (point) => point.latency.encode, text: latency, more: (s) => p95(s, "encode") },
  { name: "First token", of: (point) => point.latency.first_token, text: latency, more: (s) => p95(s, "first_token") },
  { name: "Answer", of: (point) => point.latency.answer, text: latency, more: (s) => answered(s) },
];

const p95 = (status, name) => (status.latency[name][1] ? `95 %: ${latency(status.latency[name][1])}` : "no value yet");

function answered({ questions }) {
  return `${number(questions.answered)} answered${questions.failed ? `, ${number(questions.failed)} failed` : ""}`;
}

export function startRates() {
  let points = [];
  const tiles = TILES.map((tile) => {
    const [value, more, line] = [el("b"), el("span", { class: "more" }), svg("path", { class: "line" })];
    const area = svg("path", { class: "area" });
    const chart = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "spark", "aria-hidden": "true",
    }, area, line);
    byId("tiles").append(el("div", { class: "tile" }, el("span", { class: "name", text: tile.name }), value, chart, more));
    return { ...tile, value, more, line, area, note: tile.more };
  });

  function onStatus(status) {
    points = [...points, status.point].slice(-POINTS);
    for (const tile of tiles) {
      const values = points.map((point) => tile.of(point) ?? 0);
      tile.value.textContent = tile.text(values.at(-1));
      tile.more.textContent = tile.note(status);
      draw(tile, values);
    }
    byId("drops").replaceChildren(...status.drops.map(([reason, count]) =>
      el("li", {}, el("code", { text: reason }), ` ${number(count)}`)));
    showText(byId("last-error"), status.last_error);
  }

  return { on: { status: onStatus, history: (event) => { points = event.points; } } };
}

/** Draw the values from the first one that is known. */
function draw({ line, area }, values) {
  const first = values.findIndex((value) => value > 0);
  const most = Math.max(...values) * 1.1 || 1;
  const step = WIDTH / Math.max(values.length - 1, 1);
  const points = values.map((value, index) =>
    `${(index * step).toFixed(1)} ${(HEIGHT - 1 - (value / most) * (HEIGHT - 2)).toFixed(1)}`);
  const known = first < 0 ? [] : points.slice(first);
  line.setAttribute("d", known.length ? `M${known.join("L")}` : "");
  area.setAttribute("d", known.length ? `M${known.join("L")}L${WIDTH} ${HEIGHT}L${first * step} ${HEIGHT}Z` : "");
}
