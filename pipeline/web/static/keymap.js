// Which key does what: by place (event.code), under the same fingers in every layout; by letter where none
// is told.

const STORE = "keys";
const DEFAULTS = {
  straight: ["KeyW", "ArrowUp"], left: ["KeyA", "ArrowLeft"], right: ["KeyD", "ArrowRight"], reverse: ["KeyS", "ArrowDown"],
  coast: ["ShiftLeft", "ShiftRight"], pause: ["Space"], reset: ["KeyR"], "new-seed": ["KeyN"], write: ["KeyT"],
  record: ["KeyV"], "show-hud": ["KeyH"], fullscreen: ["KeyF"], "offer-take": ["KeyZ"], past: ["KeyB"],
};
const NAMES = { Space: "Space", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", ArrowDown: "↓", ShiftLeft: "Shift", ShiftRight: "Shift" };

/** A key's place: its code, or what its letter suggests where none is told (phones, remote desktops). */
export function placeOf({ code, key }) {
  if (code && code !== "Unidentified") return code;
  if (/^[a-z]$/i.test(key)) return `Key${key.toUpperCase()}`;
  return { " ": "Space", Shift: "ShiftLeft" }[key] ?? key ?? "";
}

export class Keymap extends EventTarget {
  #codes = structuredClone(DEFAULTS);
  #letters = new Map(); // code -> what this user's layout prints there

  constructor() {
    super();
    this.#restore();
    navigator.keyboard?.getLayoutMap?.().then((map) => { for (const [code, letter] of map) this.#learn(code, letter); }, () => {});
    addEventListener("keydown", (event) => { // browsers without a layout map show it key by key
      if (event.code.startsWith("Key") && !event.shiftKey && !event.isComposing && event.key.length === 1) this.#learn(event.code, event.key);
    });
  }

  get actions() { return Object.keys(this.#codes); }

  /** What a key event asks for, or undefined. */
  action(event) {
    const place = placeOf(event);
    return this.actions.find((action) => this.#codes[action].includes(place));
  }

  /** What is printed on an action's keys, as far as the page knows. */
  caps(action) {
    const letter = (code) => NAMES[code] ?? (this.#letters.get(code) ?? code.replace(/^(Key|Digit)/, "")).toUpperCase();
    return [...new Set(this.#codes[action].map(letter))];
  }

  /** Give an action one key of its own (besides its arrow), taken from whatever had it. */
  bind(action, code) {
    for (const other of this.actions) this.#codes[other] = this.#codes[other].filter((taken) => taken !== code);
    const arrows = this.#codes[action].filter((taken) => taken.startsWith("Arrow"));
    this.#codes[action] = [code, ...arrows];
    this.#keep();
  }

  reset() {
    this.#codes = structuredClone(DEFAULTS);
    this.#keep();
  }

  #learn(code, letter) {
    if (this.#letters.get(code) === letter) return;
    this.#letters.set(code, letter);
    this.dispatchEvent(new Event("change"));
  }

  #keep() {
    try { localStorage.setItem(STORE, JSON.stringify(this.#codes)); } catch { /* no storage: until the page is left */ }
    this.dispatchEvent(new Event("change"));
  }

  #restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(STORE)) ?? {};
      for (const action of this.actions) {
        if (Array.isArray(kept[action]) && kept[action].every((code) => typeof code === "string")) this.#codes[action] = kept[action];
      }
    } catch { /* nothing kept, or nothing that can be read */ }
  }
}
