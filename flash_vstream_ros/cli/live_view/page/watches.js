// Watches with their newest probabilities, and what began or ended.

import { byId, el, svg } from "./dom.js";
import { clock, percent } from "./format.js";

export function startWatches() {
  function onWatches({ watches, events, device_share }) {
    byId("watches-card").hidden = !watches.length && !events.length;
    byId("watches-cost").textContent = watches.length ? `${percent(device_share)} of the device` : "";
    byId("watches").replaceChildren(...watches.map(watchRow));
    byId("events").replaceChildren(...events.map(eventRow));
  }

  function watchRow(watch) {
    const known = watch.probability !== null;
    return el("li", { class: watch.active ? "watch active" : "watch", title: watch.cameras.join(", ") || "all cameras" },
      el("span", { class: "watch-text", text: watch.text }),
      el("span", { class: "watch-share", text: known ? percent(watch.probability) : "–" }),
      bar(known ? watch.probability : 0, watch.on),
      watch.problem ? el("span", { class: "watch-problem", text: watch.problem }) : null);
  }

  /** The probability, with a line where the watch begins. */
  function bar(probability, on) {
    return svg("svg", { class: "bar-line", "aria-hidden": "true" },
      svg("rect", { class: "bar-ground", width: "100%", height: "100%", rx: 3 }),
      svg("rect", { class: "bar-value", width: `${100 * probability}%`, height: "100%", rx: 3 }),
      svg("line", { class: "bar-on", x1: `${100 * on}%`, x2: `${100 * on}%`, y1: "0", y2: "100%" }));
  }

  function eventRow(event) {
    const why = event.reason || [percent(event.probability), event.camera].filter(Boolean).join(", ");
    return el("li", { class: event.began ? "event began" : "event", title: event.note },
      el("span", { class: "event-at", text: clock(event.at) }),
      el("b", { text: event.began ? "began" : "ended" }),
      el("span", { class: "event-text", text: event.text }),
      el("span", { class: "event-why", text: why }));
  }

  return { on: { watches: onWatches } };
}
