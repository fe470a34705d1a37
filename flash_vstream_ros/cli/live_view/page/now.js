// The newest picture of each camera, the node's state, and what the memory holds in figures.

import { byId, el } from "./dom.js";
import { ago, bytes, clock, length, number } from "./format.js";

export function startNow(images) {
  const cards = new Map(); // by camera
  let newestFrame = 0;

  function onNewest({ pictures }) {
    const names = new Set(pictures.map((picture) => picture.camera));
    for (const [name, card] of cards) if (!names.has(name)) { card.root.remove(); cards.delete(name); }
    for (const picture of pictures) {
      const card = cards.get(picture.camera) ?? newCard(picture.camera);
      card.image.alt = `Newest picture of ${picture.camera}`;
      card.root.title = clock(picture.at);
      card.at = picture.at;
      images.show(card.image, picture.image);
    }
    showAges();
  }

  function newCard(name) {
    const image = el("img", { decoding: "async" });
    const age = el("span", { class: "age" });
    const root = el("figure", { class: "picture" }, image, el("figcaption", {}, el("b", { text: name }), age));
    const card = { root, image, age, at: 0 };
    cards.set(name, card);
    byId("pictures").append(root);
    return card;
  }

  function showAges() {
    for (const card of cards.values()) card.age.textContent = ago(Math.max(newestFrame - card.at, 0));
  }

  function onStatus(status) {
    newestFrame = status.newest_frame;
    showAges();
    const state = byId("state");
    state.dataset.state = status.paused ? "PAUSED" : status.state;
    state.textContent = (status.paused ? "paused" : status.state).toLowerCase();
    byId("model").textContent = status.model;
    const [since, until] = status.covered;
    const cached = status.tokens ? Math.min(status.cached_tokens / status.tokens, 1) : 0;
    const facts = [
      ["Remembers", until ? length(until - since) : "nothing yet", until ? `since ${clock(since)}` : ""],
      ["Memory", `${status.entries} of ${status.capacity}`, `entries for ${number(status.slots)} slots`],
      ["Size", bytes(status.bytes), `${number(status.tokens)} tokens`],
      ["Ready to answer", cached ? `${Math.round(cached * 100)} %` : "–", "of the prompt is cached"],
    ];
    byId("facts").replaceChildren(...facts.map(([name, value, more]) => el("div", { class: "fact" },
      el("dt", { text: name }), el("dd", {}, el("b", { text: value }), el("span", { text: more })))));
  }

  return { on: { newest: onNewest, status: onStatus } };
}
