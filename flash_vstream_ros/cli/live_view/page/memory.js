// The time line of the memory: a strip of its images, and a lane with the entries of each camera.

import { byId, el, svg } from "./dom.js";
import { ago, clock, number, percent, span } from "./format.js";
import { layout } from "./layout.js";

const STRIP_STEP = 76; // [px] of one image in the strip
const DRAG = 6; // [px] from which a press is a selection
const NEAR = 14; // [px] from which a pointer touches an entry

export function startMemory(images) {
  const [strip, lanes, detail] = [byId("strip"), byId("lanes"), byId("detail")];
  let [entries, evidence, shapes, drawing] = [[], [], [], null];
  let [select, pressed, planned] = [() => {}, null, false];

  const canvas = svg("svg", { class: "timeline", role: "img", "aria-label": "Entries of the memory by time and camera" });
  lanes.append(canvas);
  new ResizeObserver(plan).observe(lanes);
  canvas.addEventListener("pointerdown", onDown);
  canvas.addEventListener("pointermove", onMove);
  canvas.addEventListener("pointerup", onUp);
  canvas.addEventListener("pointercancel", () => { pressed = null; plan(); });
  canvas.addEventListener("pointerleave", () => { if (!pressed) hideDetail(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideDetail(); });

  /** Draw once before the next frame. */
  function plan() {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => { planned = false; draw(); });
  }

  function draw() {
    byId("memory-hint").hidden = entries.length > 0;
    drawing = layout(entries, evidence, lanes.clientWidth);
    shapes = drawing.shapes;
    canvas.setAttribute("width", drawing.width);
    canvas.setAttribute("height", drawing.height);
    canvas.classList.toggle("lit", evidence.length > 0);
    canvas.replaceChildren(
      ...drawing.lanes.map((lane) => svg("g", {},
        svg("rect", { class: "lane", x: 0, y: lane.y, width: drawing.width, height: lane.height, rx: 6 }),
        svg("text", { class: "lane-name", x: 8, y: lane.y + 14, text: lane.camera }))),
      ...drawing.ticks.flatMap((tick) => [
        svg("line", { class: "tick", x1: tick.x, x2: tick.x, y1: 0, y2: drawing.height - 18 }),
        svg("text", { class: "tick-name", x: tick.x, y: drawing.height - 4, "text-anchor": tick.anchor, text: tick.text }),
      ]),
      ...shapes.filter((shape) => !shape.relevance).map(entryShape),
      ...shapes.filter((shape) => shape.relevance).map(entryShape),
    );
    drawStrip();
  }

  function entryShape(shape) {
    const strength = Math.min(shape.relevance / drawing.mostRelevant, 1) || 0;
    const name = `entry ${shape.entry.key_frame ? "frame" : "synopsis"}${shape.relevance ? " evidence" : ""}`;
    const { x, y, x1, x2, r } = shape;
    const halo = shape.relevance ? svg("circle", { class: "halo", cx: x, cy: y, r: r + 4 + 5 * strength }) : null;
    const mark = shape.entry.key_frame
      ? svg("path", { class: "mark", d: `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z` })
      : svg("circle", { class: "mark", cx: x, cy: y, r });
    const bar = shape.entry.key_frame ? null
      : svg("rect", { class: "range", x: x1, y: y - 2, width: Math.max(x2 - x1, 2), height: 4, rx: 2 });
    return svg("g", { class: name }, bar, halo, mark);
  }

  /** One image for each part of the time line: evidence first, then key frames and heavy clusters. */
  function drawStrip() {
    const count = entries.length || evidence.length ? Math.max(3, Math.floor(drawing.width / STRIP_STEP)) : 0;
    while (strip.children.length > count) strip.lastChild.remove();
    while (strip.children.length < count) {
      const cell = el("button", { type: "button", class: "cell" }, el("img", { alt: "", decoding: "async" }));
      const show = () => { if (cell.shape) showDetail(cell.shape); };
      cell.addEventListener("pointerenter", show);
      cell.addEventListener("focus", show);
      cell.addEventListener("click", show);
      cell.addEventListener("pointerleave", hideDetail);
      cell.addEventListener("blur", hideDetail);
      strip.append(cell);
    }
    const parts = Array.from({ length: count }, () => []);
    for (const shape of shapes) {
      parts[Math.min(Math.floor((shape.x / drawing.width) * count), count - 1)]?.push(shape);
    }
    parts.forEach((part, index) => {
      const cell = strip.children[index];
      cell.shape = part.toSorted((a, b) => b.rank - a.rank)[0];
      cell.classList.toggle("evidence", Boolean(cell.shape?.relevance));
      cell.disabled = !cell.shape;
      cell.setAttribute("aria-label", cell.shape ? described(cell.shape.entry).join(", ") : "nothing remembered here");
      showImage(cell.firstChild, cell.shape?.entry);
    });
  }

  function showImage(element, entry) {
    if (entry?.address) {
      element.dataset.image = "";
      if (element.src !== entry.address) element.src = entry.address;
    } else {
      images.show(element, entry?.image ?? "");
    }
  }

  function described(entry) {
    const kind = entry.key_frame ? "key frame" : `synopsis of ${number(entry.weight, 1)} slots`;
    return [entry.camera, kind, clock(entry.at), span(entry.since, entry.until)];
  }

  function showDetail({ entry, x, relevance }) {
    const [camera, kind, at, whole] = described(entry);
    const image = el("img", { alt: "" });
    showImage(image, entry);
    detail.replaceChildren(image, el("div", {},
      el("b", { text: camera }),
      el("span", { text: `${at} (${ago(drawing.until - entry.at)})` }),
      el("span", { text: kind }),
      entry.pose ? el("span", { text: entry.pose }) : null,
      entry.until - entry.since >= 1 ? el("span", { text: `seen ${whole}` }) : null,
      relevance ? el("span", { class: "relevance", text: `${percent(relevance)} of the attention` }) : null));
    detail.hidden = false;
    const room = lanes.clientWidth - detail.offsetWidth;
    detail.style.left = `${lanes.offsetLeft + Math.min(Math.max(x - detail.offsetWidth / 2, 0), Math.max(room, 0))}px`;
    detail.style.top = `${lanes.offsetTop + drawing.height + 4}px`;
  }

  function hideDetail() {
    detail.hidden = true;
  }

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  function nearest({ x, y }) {
    let [best, found] = [NEAR, null];
    for (const shape of shapes) {
      const aside = Math.max(shape.x1 - x, x - shape.x2, 0);
      const distance = Math.min(Math.hypot(shape.x - x, shape.y - y), Math.hypot(aside, shape.y - y) + 3);
      if (distance < best) [best, found] = [distance, shape];
    }
    return found;
  }

  function onDown(event) {
    pressed = place(event).x;
    canvas.setPointerCapture(event.pointerId);
  }

  function onMove(event) {
    const at = place(event);
    if (pressed !== null && Math.abs(at.x - pressed) >= DRAG) return drawSelection(pressed, at.x);
    const shape = nearest(at);
    return shape ? showDetail(shape) : hideDetail();
  }

  function onUp(event) {
    const { x } = place(event);
    if (pressed !== null && Math.abs(x - pressed) >= DRAG) {
      const [from, to] = [pressed, x].sort((a, b) => a - b).map(drawing.timeAt);
      select(from, to);
    }
    pressed = null;
  }

  function drawSelection(from, to) {
    canvas.querySelector(".selection")?.remove();
    canvas.append(svg("rect", {
      class: "selection", x: Math.min(from, to), y: 0, width: Math.abs(to - from), height: drawing.height - 18, rx: 4,
    }));
  }

  return {
    on: { memory: (event) => { entries = event.entries; plan(); } },
    /** Light up the evidence of an answer: entries with `relevance` and `address`, the address of their image. */
    light(found) { evidence = found; hideDetail(); plan(); },
    /** `handler(since, until)` is called when the user selects an interval. */
    onSelect(handler) { select = handler; },
  };
}
