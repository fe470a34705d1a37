// Requests to the server: the token, streams of JSON lines, images.

import { byId } from "./dom.js";

const KEY = "flash-vstream-token";
const SILENT_MS = 25_000; // the server sends an event at least every ten seconds
const RETRY_MS = [500, 1000, 2000, 5000];

let token = tokenOfAddress() || sessionStorage.getItem(KEY) || "";
let login = null; // a promise, while the user is asked for the token

/** A token after `#` in the address, which browsers do not send to servers; it is taken out of the address. */
function tokenOfAddress() {
  const found = printable(location.hash.slice(1));
  if (found) history.replaceState(null, "", location.pathname);
  return found;
}

/** The characters that a token can have; others cannot be sent in a header. */
function printable(text) {
  return text.replace(/[^\x21-\x7e]/g, "");
}

/** `fetch` with the token; asks for it if the server needs one. Rejects with a sentence. */
export async function request(path, options = {}) {
  for (;;) {
    const sent = token;
    const headers = { ...options.headers, ...(sent ? { Authorization: `Bearer ${sent}` } : {}) };
    const response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
    if (response.status !== 401) {
      if (sent) sessionStorage.setItem(KEY, sent);
      return response;
    }
    if (sent === token) await askForToken(Boolean(sent));
  }
}

function askForToken(refused) {
  login ??= new Promise((resolve) => {
    byId("login-error").hidden = !refused;
    byId("token").value = "";
    const dialog = byId("login");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    byId("login-form").addEventListener("submit", () => {
      token = printable(byId("token").value);
      login = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return login;
}

export function post(path, fields, signal) {
  return request(path, {
    method: "POST", body: JSON.stringify(fields), headers: { "Content-Type": "application/json" }, signal,
  });
}

/** The objects of a response of JSON lines. */
export async function* lines(response, heard = () => {}) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

/** Follow the server's events for ever; `lost(sentence)` says that the connection is lost, "" that it is back. */
export async function follow(handle, lost) {
  for (let failures = 0; ; failures++) {
    await visible();
    const ending = new AbortController();
    const hide = () => document.hidden && ending.abort();
    document.addEventListener("visibilitychange", hide);
    let timer = setTimeout(() => ending.abort(), SILENT_MS);
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => ending.abort(), SILENT_MS);
    };
    try {
      const response = await request("api/events", { signal: ending.signal });
      if (!response.ok) throw new Error((await response.json()).error);
      lost("");
      for await (const event of lines(response, heard)) {
        failures = 0;
        handle(event);
      }
      lost("The server has ended.");
    } catch (error) {
      if (!document.hidden) lost(error.name === "Error" ? error.message : "No connection to the server.");
    }
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", hide);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
  }
}

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", () => resolve(), { once: true }));
}

/** The images of an event by their ids, as addresses of blobs. */
export class Images {
  #known = new Map();

  /** Show an image in an `img` element once it is there. */
  async show(element, id) {
    if (element.dataset.image === id) return;
    element.dataset.image = id;
    if (!id) return element.removeAttribute("src");
    if (!this.#known.has(id)) this.#known.set(id, this.#load(id));
    const address = await this.#known.get(id);
    if (!address) this.#known.delete(id);
    else if (element.dataset.image === id) element.src = address;
  }

  async #load(id) {
    try {
      const response = await request(`api/images/${encodeURIComponent(id)}`);
      return response.ok ? URL.createObjectURL(await response.blob()) : "";
    } catch {
      return "";
    }
  }

  /** Drop all images but these. */
  keep(ids) {
    const kept = new Set(ids);
    for (const [id, address] of this.#known) {
      if (kept.has(id)) continue;
      this.#known.delete(id);
      address.then((found) => found && URL.revokeObjectURL(found));
    }
  }
}

/** The address of a blob for a JPEG in base64. */
export function jpegAddress(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
}
