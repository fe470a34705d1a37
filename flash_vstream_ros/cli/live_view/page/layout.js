// Places the entries of the memory on a time line. Pure functions; lengths in pixels, times in seconds.

import { length } from "./format.js";

const [HEAD, ROW, FOOT, AXIS, GAP, EDGE] = [32, 9, 8, 22, 6, 10];
const MAX_ROWS = 12; // of overlapping clusters in one lane
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];
const TICK = 90; // least distance of two labels

/** Shapes, lanes and ticks for `width`. Evidence stands in place of the entry that it shows, or beside the others. */
export function layout(entries, evidence, width) {
  const shown = merged(entries, evidence);
  const since = Math.min(...shown.map((entry) => entry.since));
  const until = Math.max(...shown.map((entry) => entry.until));
  const scale = (width - 2 * EDGE) / Math.max(until - since, 1);
  const xOf = (time) => EDGE + (time - since) * scale;
  const mostRelevant = Math.max(...evidence.map((entry) => entry.relevance), 0);
  const [lanes, shapes] = [[], []];
  let y = 0;
  for (const camera of [...new Set(shown.map((entry) => entry.camera))].sort()) {
    const lane = placed(shown.filter((entry) => entry.camera === camera), xOf, y + HEAD);
    lanes.push({ camera, y, height: lane.height + HEAD });
    shapes.push(...lane.shapes);
    y += lane.height + HEAD + GAP;
  }
  return {
    width, height: shown.length ? y + AXIS - GAP : 0, lanes, shapes, mostRelevant, until,
    ticks: shown.length ? ticks(since, until, xOf, width) : [],
    timeAt: (x) => Math.min(Math.max(since + (x - EDGE) / scale, since), until),
  };
}

const keyOf = (entry) => JSON.stringify([entry.camera, entry.key_frame, entry.since, entry.until]);

function merged(entries, evidence) {
  const lit = new Map(evidence.map((entry) => [keyOf(entry), entry]));
  const kept = entries.map((entry) => {
    const found = lit.get(keyOf(entry));
    lit.delete(keyOf(entry));
    return found ? { ...entry, ...found, image: entry.image } : entry;
  });
  return [...kept, ...lit.values()];
}

/** Shapes of one camera: key frames in the first row, clusters below in as few rows as they fit into. */
function placed(entries, xOf, top) {
  const ends = []; // right end of each row
  const shapes = entries.filter((entry) => entry.key_frame).map((entry) => shape(entry, xOf, top, 5));
  const first = top + (shapes.length ? 14 : 2);
  for (const entry of entries.filter((each) => !each.key_frame).sort((a, b) => a.since - b.since)) {
    const [left, right] = [xOf(entry.since), xOf(entry.until)];
    let row = ends.findIndex((end) => end + 6 < left);
    if (row < 0) row = ends.length < MAX_ROWS ? ends.length : ends.indexOf(Math.min(...ends));
    ends[row] = Math.max(right, left + 6);
    shapes.push(shape(entry, xOf, first + row * ROW, Math.min(2 + Math.sqrt(entry.weight) * 0.6, 6)));
  }
  return { shapes, height: first - top + ends.length * ROW + (ends.length ? 0 : 4) + FOOT - 4 };
}

function shape(entry, xOf, y, r) {
  const relevance = entry.relevance ?? 0;
  const rank = relevance ? 1e6 * (1 + relevance) : (entry.key_frame ? 1e3 : 0) + entry.weight;
  return { entry, x: xOf(entry.at), y, x1: xOf(entry.since), x2: xOf(entry.until), r, relevance, rank };
}

/** Labels relative to the newest time: whole steps before it. */
function ticks(since, until, xOf, width) {
  const most = Math.max(2, Math.floor(width / TICK));
  const step = STEPS.find((each) => (until - since) / each <= most) ?? Math.ceil((until - since) / most);
  const found = [{ x: xOf(until), anchor: "end", text: "newest" }];
  for (let before = step; before <= until - since; before += step) {
    const x = xOf(until - before);
    if (xOf(until) - x > 56) found.push({ x, anchor: x < 30 ? "start" : "middle", text: `−${length(before)}` });
  }
  return found;
}
