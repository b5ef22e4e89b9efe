// What is held: keyboard, drawn keys, touch zones and gamepads, as one set of names.

import { Gamepads } from "./gamepads.js";
import { placeOf } from "./keymap.js";
import { KEYS } from "./wire.js";

const REPEAT_LOST_MS = 1500; // a key that repeats no more was let go elsewhere

/** Emits change (detail = {held: Set, source, at}) whenever the held set changes. */
export class Controls extends EventTarget {
  #sources = new Map(); // source -> Map of what (a key's place, a pointer id, ...) -> name
  #held = new Set();
  #gamepads = new Gamepads();
  #polling = false;
  #repeated = null; // {place, at} of the key that repeats now

  constructor({ keys, zones, busy, keymap }) {
    super();
    addEventListener("keydown", (event) => this.#key(event, busy, keymap));
    addEventListener("keyup", (event) => this.#keyUp(event));
    for (const kind of ["blur", "pagehide", "contextmenu"]) addEventListener(kind, () => this.release());
    document.addEventListener("visibilitychange", () => { if (document.hidden) this.release(); });
    for (const kind of ["pointermove", "pointerdown", "wheel"]) addEventListener(kind, (event) => this.#shift(event), { passive: true });
    setInterval(() => this.#watch(), REPEAT_LOST_MS / 6);
    for (const button of keys.querySelectorAll("[data-key]")) this.#press(button, () => button.dataset.key);
    this.#press(zones, (event) => zoneAt(zones, event));
    addEventListener("gamepadconnected", () => { if (!this.#polling) { this.#polling = true; this.#poll(); } });
  }

  get held() { return this.#held; }

  /** Let everything go. */
  release() {
    this.#sources.clear();
    this.#repeated = null;
    this.#settle("released", performance.now());
  }

  #key(event, busy, keymap) {
    if (event.metaKey || event.altKey || event.key === "Meta" || event.key === "Alt") return this.#drop("keyboard", null, event.timeStamp); // the system swallows other keyups
    this.#shift(event);
    const name = keymap.action(event), place = placeOf(event);
    this.#repeated = event.repeat ? { place, at: event.timeStamp } : null;
    if (!KEYS.includes(name) || event.ctrlKey || event.isComposing || busy(event)) return;
    event.preventDefault();
    if (!event.repeat) this.#take("keyboard", place, name, event.timeStamp);
  }

  #keyUp(event) {
    this.#repeated = null;
    if (event.key === "Meta" || event.key === "Alt") return this.#drop("keyboard", null, event.timeStamp);
    this.#drop("keyboard", placeOf(event), event.timeStamp);
    this.#shift(event);
  }

  /** Any event tells whether Shift is down: its keyup may be lost. */
  #shift({ shiftKey, timeStamp }) {
    if (!shiftKey) for (const place of ["ShiftLeft", "ShiftRight"]) this.#drop("keyboard", place, timeStamp);
  }

  #watch() {
    const now = performance.now();
    if (!this.#repeated || now - this.#repeated.at < REPEAT_LOST_MS) return;
    const { place } = this.#repeated;
    this.#repeated = null;
    this.#drop("keyboard", place, now);
  }

  #press(element, nameOf) {
    element.addEventListener("touchstart", (event) => { if (event.cancelable) event.preventDefault(); }, { passive: false }); // no magnifier, no selection
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
    element.addEventListener("contextmenu", (event) => { event.preventDefault(); event.stopPropagation(); });
    if (element.tagName === "BUTTON") this.#pressByKeys(element, nameOf);
  }

  #pressByKeys(button, nameOf) {
    button.addEventListener("keydown", (event) => {
      if ((event.code === "Space" || event.code === "Enter") && !event.repeat) this.#take("button", event.code, nameOf(event), event.timeStamp);
    });
    button.addEventListener("keyup", (event) => this.#drop("button", event.code, event.timeStamp));
    button.addEventListener("blur", () => this.#drop("button", null, performance.now()));
  }

  #poll() {
    const pads = [...(navigator.getGamepads?.() ?? [])];
    this.#sources.set("gamepad", new Map(this.#gamepads.held(pads)));
    this.#settle("gamepad", performance.now());
    this.#polling = pads.some(Boolean);
    if (this.#polling) requestAnimationFrame(() => this.#poll());
  }

  #take(source, what, name, at) {
    if (!this.#sources.has(source)) this.#sources.set(source, new Map());
    this.#sources.get(source).set(what, name);
    this.#settle(source, at);
  }

  /** Let one thing go, or (null) all that a source holds. */
  #drop(source, what, at) {
    const gone = what === null ? this.#sources.delete(source) : this.#sources.get(source)?.delete(what);
    if (gone) this.#settle(source, at);
  }

  #settle(source, at) {
    const held = new Set([...this.#sources.values()].flatMap((map) => [...map.values()]));
    if (held.size === this.#held.size && KEYS.every((key) => held.has(key) === this.#held.has(key))) return;
    this.#held = held;
    this.dispatchEvent(new CustomEvent("change", { detail: { held, source, at } }));
  }
}

/** The part of the picture under a finger: left, right, or the lower middle (reverse). */
function zoneAt(zones, event) {
  const box = zones.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  return x < 0.38 ? "left" : x > 0.62 ? "right" : y > 0.7 ? "reverse" : "straight";
}
