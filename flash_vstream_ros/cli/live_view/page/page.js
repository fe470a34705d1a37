// Starts the sections of the page, and passes each event of the server to the section that shows it.

import { startAsk } from "./ask.js";
import { byId, showText } from "./dom.js";
import { startMemory } from "./memory.js";
import { startNow } from "./now.js";
import { startRates } from "./rates.js";
import { Images, follow } from "./server.js";
import { startWatches } from "./watches.js";

const images = new Images();
const newest = { memory: [], newest: [] }; // ids of the images of the newest event of each kind
const memory = startMemory(images);
const ask = startAsk({ light: memory.light });
memory.onSelect(ask.limitTo);
const sections = [startNow(images), ask, memory, startWatches(), startRates()];
const problems = { connection: "", node: "" };

function showProblem(kind, sentence) {
  problems[kind] = sentence;
  showText(byId("problem"), problems.connection || problems.node);
  document.body.classList.toggle("stale", Boolean(problems.connection || problems.node));
}

function handle(event) {
  if (event.kind === "node") showProblem("node", event.problem);
  if (event.kind in newest) {
    newest[event.kind] = (event.entries ?? event.pictures).map((item) => item.image);
    images.keep([...newest.memory, ...newest.newest]);
  }
  for (const section of sections) section.on[event.kind]?.(event);
}

follow(handle, (sentence) => showProblem("connection", sentence));
