// Questions and searches: the form, streaming answers, and their evidence.

import { byId, el, showText } from "./dom.js";
import { clock, latency, percent } from "./format.js";
import { jpegAddress, lines, post } from "./server.js";

const MAX_TURNS = 20;
const MAX_SHOWN = 12; // entries of evidence
const WEAK = 0.05; // share of the greatest relevance below which an entry is not shown

/** The entries that an answer rests on most: they come in descending order of relevance. */
function strongest(evidence) {
  const least = (evidence[0]?.relevance ?? 0) * WEAK;
  return evidence.slice(0, MAX_SHOWN).filter((entry) => entry.relevance >= least);
}

/** `light(evidence)` shows the evidence on the time line. */
export function startAsk({ light }) {
  const [form, question, turns] = [byId("ask-form"), byId("question"), byId("turns")];
  let running = null; // the AbortController of the running question

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = question.value.trim();
    if (text && !running) run(event.submitter?.value === "search" ? search : ask, text);
  });
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit(form.querySelector(".primary"));
  });
  byId("cancel").addEventListener("click", () => running?.abort());
  byId("clear-limits").addEventListener("click", () => {
    for (const id of ["camera", "since", "until"]) byId(id).value = "";
    showLimits();
  });
  byId("limits").addEventListener("input", showLimits);

  async function run(send, text) {
    running = new AbortController();
    setRunning(true);
    const turn = newTurn(text);
    try {
      await send(turn, fields(text), running.signal);
    } catch (error) {
      showText(turn.error, running.signal.aborted ? "Cancelled." : "No connection to the server.");
    }
    turn.root.classList.remove("running");
    running = null;
    setRunning(false);
  }

  function fields(text) {
    const camera = byId("camera").value;
    return { text, cameras: camera ? [camera] : [], since: byId("since").value.trim(), until: byId("until").value.trim() };
  }

  function setRunning(is) {
    for (const button of form.querySelectorAll("button[type=submit]")) button.disabled = is;
    byId("cancel").hidden = !is;
  }

  function newTurn(text) {
    const turn = {
      root: el("article", { class: "turn running" }),
      answer: el("p", { class: "answer" }),
      error: el("p", { class: "error-text", hidden: true }),
      notes: el("p", { class: "notes", hidden: true }),
      facts: el("p", { class: "meta" }),
      evidence: el("div", { class: "evidence-row" }),
      found: [],
    };
    turn.root.append(el("p", { class: "question", text }), turn.answer, turn.error, turn.facts, turn.evidence, turn.notes);
    turn.root.addEventListener("click", () => choose(turn));
    turns.prepend(turn.root);
    byId("turns-hint").hidden = true;
    while (turns.children.length > MAX_TURNS) drop(turns.lastChild);
    choose(turn);
    return turn;
  }

  function drop(root) {
    for (const image of root.querySelectorAll("img[src]")) URL.revokeObjectURL(image.src);
    root.remove();
  }

  async function ask(turn, asked, signal) {
    const response = await post("api/ask", asked, signal);
    for await (const line of lines(response)) {
      if (line.text) turn.answer.append(line.text);
      if (line.key_frames) {
        turn.facts.textContent = `encoding archived key frames: ${line.key_frames[0]} of ${line.key_frames[1]}`;
      }
      if (line.error) showText(turn.error, line.error);
      if (line.answer !== undefined) showAnswer(turn, line);
    }
  }

  function showAnswer(turn, reply) {
    turn.answer.textContent = reply.answer;
    const sure = reply.calibrated ? `${percent(reply.confidence)} sure` : `score ${reply.confidence.toFixed(2)}`;
    turn.facts.textContent = [sure, `first token ${latency(reply.first_token)}`, `answer ${latency(reply.duration)}`].join(" · ");
    showEvidence(turn, reply);
  }

  async function search(turn, asked, signal) {
    const reply = await (await post("api/search", asked, signal)).json();
    if (reply.error) return showText(turn.error, reply.error);
    turn.facts.textContent = `best moments first · ${latency(reply.duration)}`;
    return showEvidence(turn, reply);
  }

  function showEvidence(turn, reply) {
    showText(turn.notes, reply.notes.join(" "));
    const shown = strongest(reply.evidence);
    if (shown.length < reply.evidence.length) {
      turn.facts.append(` · the strongest ${shown.length} of ${reply.evidence.length} entries`);
    }
    turn.found = shown.map(({ jpeg, ...entry }) => ({ ...entry, address: jpeg ? jpegAddress(jpeg) : "" }));
    turn.evidence.replaceChildren(...turn.found.map((entry) => el("figure", { title: [entry.camera, entry.pose].filter(Boolean).join(": ") },
      el("img", { src: entry.address || null, alt: `Evidence from ${entry.camera}` }),
      el("figcaption", {}, el("b", { text: percent(entry.relevance) }), el("span", { text: clock(entry.at) })))));
    choose(turn);
  }

  /** Light up the evidence of one turn. */
  function choose(turn) {
    for (const each of turns.children) each.classList.toggle("chosen", each === turn.root);
    light(turn.found);
  }

  function limitTo(since, until) {
    byId("since").value = since.toFixed(2);
    byId("until").value = until.toFixed(2);
    byId("limits").open = true;
    showLimits();
  }

  function showLimits() {
    byId("limits").classList.toggle("set", ["camera", "since", "until"].some((id) => byId(id).value));
  }

  function onStatus({ cameras }) {
    const select = byId("camera");
    const names = [...select.options].slice(1).map((option) => option.value);
    if (JSON.stringify(names) === JSON.stringify(cameras)) return;
    const chosen = select.value;
    select.replaceChildren(select.options[0], ...cameras.map((name) => el("option", { value: name, text: name })));
    select.value = cameras.includes(chosen) ? chosen : "";
  }

  return { on: { status: onStatus }, limitTo };
}
