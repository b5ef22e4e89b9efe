// The connection: says hello, measures the clock, notices silence within two seconds and comes back by itself.

import { readFrame } from "./wire.js";

const TICK_MS = 250, SILENCE_MS = 1500, LONGEST_WAIT_MS = 5000;

/** Emits: message (detail = JSON object), frame (detail = {header, jpeg, received}), open, lost (detail = {why, retryIn}). */
export class Link extends EventTarget {
  roundTrip = Infinity;
  offset = 0; // server clock - page clock, ms
  #socket = null;
  #heard = 0;
  #ticked = 0;
  #attempts = 0;
  #samples = [];

  constructor() {
    super();
    this.#open();
    setInterval(() => this.#tick(), TICK_MS);
    document.addEventListener("visibilitychange", () => { this.#heard = performance.now(); });
  }

  get up() { return this.#socket?.readyState === WebSocket.OPEN && this.#heard > 0; }

  /** Send a message; quietly nothing while the connection is down. */
  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = this.#socket = new WebSocket(`${scheme}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    this.#heard = 0;
    this.#samples = [];
    const opened = performance.now();
    socket.onopen = () => this.send({ type: "hello", client: identity() });
    socket.onmessage = (event) => this.#receive(socket, event);
    socket.onclose = (event) => { if (socket === this.#socket) this.#lose(event.reason); };
    setTimeout(() => { if (socket === this.#socket && !this.#heard && performance.now() - opened > 4000) socket.close(); }, 5000);
  }

  #receive(socket, event) {
    if (socket !== this.#socket) return;
    this.#heard = performance.now();
    if (typeof event.data !== "string") {
      this.#attempts = 0;
      const frame = readFrame(event.data);
      if (frame) this.#emit("frame", { ...frame, received: this.#heard });
      return;
    }
    const message = JSON.parse(event.data);
    if (message.type === "pong") return this.#pong(message);
    if (message.type === "welcome") {
      this.#emit("open");
      for (let i = 0; i < 3; i++) setTimeout(() => this.#ping(), 50 * i);
    }
    this.#emit("message", message);
  }

  #tick() {
    const now = performance.now();
    if (now - this.#ticked > SILENCE_MS) this.#heard &&= now; // the page itself was held up: what came is not read yet
    this.#ticked = now;
    if (!this.up || document.hidden) return;
    if (now - this.#heard > SILENCE_MS) {
      const socket = this.#socket;
      this.#lose("");
      socket.close();
    } else this.#ping();
  }

  #ping() {
    const message = { type: "ping", clock: performance.now() };
    if (this.roundTrip < 60000) message.round_trip = this.roundTrip;
    this.send(message);
  }

  #pong({ clock, server }) {
    const now = performance.now();
    this.#samples.push({ trip: now - clock, offset: server * 1000 - (now + clock) / 2 });
    if (this.#samples.length > 20) this.#samples.shift();
    const best = this.#samples.reduce((a, b) => (b.trip < a.trip ? b : a));
    this.roundTrip = best.trip;
    this.offset = best.offset;
  }

  async #lose(why) {
    this.#socket = null;
    const wait = Math.min(250 * 2 ** this.#attempts++, LONGEST_WAIT_MS) * (0.8 + 0.4 * Math.random());
    this.#emit("lost", { why, retryIn: wait, locked: false });
    setTimeout(() => this.#open(), wait);
    if (this.#attempts > 1 && await locked()) this.#emit("lost", { why, retryIn: wait, locked: true });
  }

  #emit(kind, detail) { this.dispatchEvent(new CustomEvent(kind, { detail })); }
}

/** Whether the server is there but does not know our key any more. */
async function locked() {
  try {
    return (await fetch("/", { method: "HEAD", cache: "no-store" })).status === 401;
  } catch {
    return false;
  }
}

/** This tab's name, kept over reconnects and reloads, so that the wheel comes back to it. */
function identity() {
  try {
    let name = sessionStorage.getItem("name");
    if (!name) {
      name = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
      sessionStorage.setItem("name", name);
    }
    return name;
  } catch {
    return "";
  }
}
