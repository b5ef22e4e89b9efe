// Settings of this browser: scaling, what is around the picture, theme, keys.

import { $, made } from "./dom.js";
import { placeOf } from "./keymap.js";

const STORE = "settings";
const DEFAULTS = { scaling: "auto", controls: "full", theme: "dark" };
const WORDS = {
  straight: "straight on", left: "turn left", right: "turn right", reverse: "reverse", coast: "coast in neutral", pause: "pause and go on",
  reset: "back to the start, in these words", "new-seed": "new seed, new world", write: "write a prompt", record: "record", "show-hud": "figures",
  fullscreen: "full screen", "offer-take": "take what is offered (undo)", past: "back in time",
};

/** Emits change (detail = {scaling, controls, theme}). */
export class Settings extends EventTarget {
  #chosen = { ...DEFAULTS };
  #keymap;
  #binding = null; // the action that waits for its new key

  constructor(keymap) {
    super();
    this.#keymap = keymap;
    try { Object.assign(this.#chosen, JSON.parse(localStorage.getItem(STORE))); } catch { /* nothing kept */ }
    for (const name of Object.keys(DEFAULTS)) {
      $(`set-${name}`).value = this.#chosen[name];
      $(`set-${name}`).addEventListener("change", ({ target }) => this.#choose(name, target.value));
    }
    keymap.addEventListener("change", () => this.#drawKeys());
    $("keys-restore").addEventListener("click", () => keymap.reset());
    $("settings").addEventListener("keydown", (event) => this.#bind(event), true);
    $("settings").addEventListener("close", () => { this.#binding = null; this.#drawKeys(); });
    this.#fillHelp();
    this.#drawKeys();
  }

  get chosen() { return this.#chosen; }

  #choose(name, value) {
    this.#chosen[name] = value;
    try { localStorage.setItem(STORE, JSON.stringify(this.#chosen)); } catch { /* until the page is left */ }
    this.dispatchEvent(new Event("change"));
  }

  #bind(event) {
    if (!this.#binding || event.key === "Tab") return;
    event.preventDefault();
    event.stopPropagation();
    const action = this.#binding;
    this.#binding = null;
    if (event.key === "Escape") this.#drawKeys();
    else this.#keymap.bind(action, placeOf(event));
  }

  #fillHelp() {
    const rows = this.#keymap.actions.map((action) => {
      const keys = made("dt");
      keys.dataset.caps = action;
      return made("div", {}, keys, made("dd", { textContent: WORDS[action] }));
    });
    $("help-keys").prepend(...rows);
  }

  /** The keys as this keyboard prints them. */
  #drawKeys() {
    const caps = (action) => this.#keymap.caps(action).flatMap((letter) => [cap(letter), " "]);
    for (const place of document.querySelectorAll("[data-caps]")) place.replaceChildren(...place.dataset.caps.split(" ").flatMap(caps));
    $("key-list").replaceChildren(...this.#keymap.actions.map((action) => {
      const shown = this.#binding === action ? ["press a key"] : caps(action).length ? caps(action) : ["none"];
      const change = made("button", { type: "button" }, ...shown);
      change.dataset.bind = action;
      change.setAttribute("aria-label", `Change the key for: ${WORDS[action]}`);
      change.addEventListener("click", () => {
        this.#binding = action;
        this.#drawKeys();
        $("key-list").querySelector(`[data-bind="${action}"]`).focus();
      });
      return made("div", {}, made("dt", { textContent: WORDS[action] }), made("dd", {}, change));
    }));
  }
}

function cap(letter) { return made("kbd", { textContent: letter }); }
