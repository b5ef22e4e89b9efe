// The connection: says hello, measures the clock, notices silence, comes back by itself.

import { PollChannel, SocketChannel } from "./channel.js";
import { decodesVideo } from "./decoder.js";
import { token } from "./key.js";
import { readFrame } from "./wire.js";

const TICK_MS = 250, SILENCE_MS = 1500, LONGEST_WAIT_MS = 5000, OPENING_MS = 5000;

/** Emits: message (detail = JSON object), frame (detail = {header, data, received}), open, blocked, lost (detail = {locked, gone}). */
export class Link extends EventTarget {
  roundTrip = Infinity;
  offset = 0; // server clock - page clock, ms
  polls = false; // over plain HTTP, because WebSockets do not get through
  #channel = null;
  #socketWorks = false; // it did once
  #refusals = 0; // sockets in a row that did not open although HTTP works
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

  get up() { return Boolean(this.#channel?.open && this.#heard > 0); }

  /** Send a message; quietly nothing while the connection is down. */
  send(message) { this.#channel?.send(message); }

  #open() {
    this.#heard = 0;
    this.#samples = [];
    const Channel = this.polls ? PollChannel : SocketChannel;
    const channel = this.#channel = new Channel({ type: "hello", client: identity(), token, video: decodesVideo }, {
      message: (data) => { if (channel === this.#channel) this.#receive(data); },
      close: (why) => { if (channel === this.#channel) this.#lose(why); },
    });
    setTimeout(() => { if (channel === this.#channel && !this.#heard) channel.close(); }, OPENING_MS);
  }

  #receive(data) {
    this.#heard = performance.now();
    if (typeof data !== "string") {
      this.#attempts = 0;
      const frame = readFrame(data);
      if (frame) this.#emit("frame", { ...frame, received: this.#heard });
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "pong") return this.#pong(message);
    if (message.type === "welcome") {
      this.#refusals = 0;
      this.#socketWorks ||= !this.polls;
      this.#emit("open");
      for (let i = 0; i < 3; i++) setTimeout(() => this.#ping(), 50 * i);
    }
    this.#emit("message", message);
  }

  #tick() {
    const now = performance.now();
    if (now - this.#ticked > SILENCE_MS) this.#heard &&= now; // the page was held up: what came is not read yet
    this.#ticked = now;
    if (!this.up || document.hidden) return;
    if (now - this.#heard > SILENCE_MS) {
      const channel = this.#channel;
      this.#lose("");
      channel.close();
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
    const unopened = !this.#heard;
    if (why) this.#emit("message", { type: "bye", reason: why }); // a socket has said it
    this.#channel = null;
    const wait = Math.min(250 * 2 ** this.#attempts++, LONGEST_WAIT_MS) * (0.8 + 0.4 * Math.random());
    this.#emit("lost", {});
    setTimeout(() => this.#open(), wait);
    if (!unopened && this.#attempts < 2) return;
    const status = await answer();
    if (status === 410) this.#emit("lost", { gone: true });
    else if (status === 401 || !token) this.#emit("lost", { locked: true });
    else if (status === 200 && unopened && !this.polls) this.#refused();
  }

  /** HTTP works, the socket does not: blocked if it never did; else perhaps a restart. */
  #refused() {
    if (++this.#refusals < (this.#socketWorks ? 4 : 1)) return;
    this.polls = true;
    this.#emit("blocked");
  }

  #emit(kind, detail) { this.dispatchEvent(new CustomEvent(kind, { detail })); }
}

/** The server's status for its page: 401 = our cookie is old, 0 = it is gone. */
async function answer() {
  try {
    return (await fetch("./", { method: "HEAD", cache: "no-store" })).status;
  } catch {
    return 0;
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
