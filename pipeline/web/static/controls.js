// What is held: keyboard, drawn keys, touch zones and gamepad, as one set of names.

import { KEYS } from "./wire.js";

const CODES = {
  KeyW: "straight", ArrowUp: "straight", KeyA: "left", ArrowLeft: "left", KeyD: "right", ArrowRight: "right",
  KeyS: "reverse", ArrowDown: "reverse", ShiftLeft: "coast", ShiftRight: "coast",
};
const DEAD_ZONE = 0.3;
const BUTTONS = { 0: "straight", 7: "straight", 12: "straight", 1: "reverse", 6: "reverse", 13: "reverse", 2: "coast", 14: "left", 15: "right" };

/** Emits change (detail = {held: Set, source, at}) whenever the held set changes. */
export class Controls extends EventTarget {
  #sources = new Map(); // source -> Map of what (a key code, a pointer id, ...) -> name
  #held = new Set();
  #polling = false;

  constructor({ keys, zones, busy }) {
    super();
    addEventListener("keydown", (event) => this.#key(event, busy));
    addEventListener("keyup", (event) => this.#drop("keyboard", event.code, event.timeStamp));
    addEventListener("blur", () => this.release());
    document.addEventListener("visibilitychange", () => { if (document.hidden) this.release(); });
    for (const button of keys.querySelectorAll("[data-key]")) this.#press(button, () => button.dataset.key);
    this.#press(zones, (event) => zoneAt(zones, event));
    addEventListener("gamepadconnected", () => { if (!this.#polling) { this.#polling = true; this.#poll(); } });
  }

  get held() { return this.#held; }

  /** Let everything go. */
  release() {
    this.#sources.clear();
    this.#settle("released", performance.now());
  }

  #key(event, busy) {
    const name = CODES[event.code];
    if (!name || event.ctrlKey || event.metaKey || event.altKey || busy(event.target)) return;
    if (event.code.startsWith("Arrow")) event.preventDefault();
    if (!event.repeat) this.#take("keyboard", event.code, name, event.timeStamp);
  }

  #press(element, nameOf) {
    element.addEventListener("pointerdown", (event) => {
      const name = nameOf(event);
      if (!name || event.button || (element.tagName !== "BUTTON" && event.pointerType === "mouse")) return;
      event.preventDefault();
      element.setPointerCapture(event.pointerId);
      this.#take("touch", event.pointerId, name, event.timeStamp);
    });
    element.addEventListener("pointermove", (event) => {
      const held = this.#sources.get("touch")?.get(event.pointerId), name = nameOf(event);
      if (held && name && name !== held) this.#take("touch", event.pointerId, name, event.timeStamp);
    });
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
      element.addEventListener(kind, (event) => this.#drop("touch", event.pointerId, event.timeStamp));
    }
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    if (element.tagName !== "BUTTON") return;
    element.addEventListener("keydown", (event) => {
      if ((event.code === "Space" || event.code === "Enter") && !event.repeat) this.#take("button", event.code, nameOf(event), event.timeStamp);
    });
    element.addEventListener("keyup", (event) => this.#drop("button", event.code, event.timeStamp));
    element.addEventListener("blur", () => { this.#sources.delete("button"); this.#settle("button", performance.now()); });
  }

  #poll() {
    const pads = (navigator.getGamepads?.() ?? []).filter(Boolean);
    const now = new Map();
    for (const pad of pads) {
      const [x = 0, y = 0] = pad.axes;
      if (Math.hypot(x, y) > DEAD_ZONE) {
        if (Math.abs(x) > DEAD_ZONE) now.set("x", x < 0 ? "left" : "right");
        if (Math.abs(y) > 0.5) now.set("y", y < 0 ? "straight" : "reverse");
      }
      for (const [index, name] of Object.entries(BUTTONS)) if (pad.buttons[index]?.pressed) now.set(index, name);
    }
    this.#sources.set("gamepad", now);
    this.#settle("gamepad", performance.now());
    this.#polling = pads.length > 0;
    if (this.#polling) requestAnimationFrame(() => this.#poll());
  }

  #take(source, what, name, at) {
    if (!this.#sources.has(source)) this.#sources.set(source, new Map());
    this.#sources.get(source).set(what, name);
    this.#settle(source, at);
  }

  #drop(source, what, at) {
    if (this.#sources.get(source)?.delete(what)) this.#settle(source, at);
  }

  #settle(source, at) {
    const held = new Set([...this.#sources.values()].flatMap((map) => [...map.values()]));
    if (held.size === this.#held.size && KEYS.every((key) => held.has(key) === this.#held.has(key))) return;
    this.#held = held;
    this.dispatchEvent(new CustomEvent("change", { detail: { held, source, at } }));
  }
}

/** The part of the picture a finger is on: left side, right side, or the lower middle (reverse). */
function zoneAt(zones, event) {
  const box = zones.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  return x < 0.38 ? "left" : x > 0.62 ? "right" : y > 0.7 ? "reverse" : "straight";
}
