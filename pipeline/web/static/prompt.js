// The prompt: its field, the worlds to pick, what became of the newest.

import { $, made } from "./dom.js";
import { toast } from "./say.js";

const LONGEST = 4000, NONE = -1;

export class Prompt {
  #texts = new Map(); // version -> the text
  #inForce = ""; // what the newest pictures follow
  #awaited = NONE; // version that is on its way
  #halfKnown = NONE; // version of which not all is followed
  #draft = null; // what stood in the field before one looked back; null = nobody does

  constructor(ask) {
    $("prompt-form").addEventListener("submit", (event) => {
      event.preventDefault();
      ask($("prompt").value);
    });
    $("prompt").addEventListener("input", ({ target }) => {
      if (target.value.length <= LONGEST) return;
      target.value = target.value.slice(0, LONGEST);
      toast(`A prompt has ${LONGEST} characters at most; the rest was cut off.`, true);
    });
    $("presets").addEventListener("change", ({ target }) => {
      const text = target.value;
      target.value = "";
      target.blur();
      if (text) this.#goThere(text);
    });
  }

  begin(text, { presets, pictures = [] }) {
    $("prompt").value ||= text;
    this.#texts.clear();
    this.#stand(text);
    this.#offer(presets, pictures);
  }

  of(version) { return this.#texts.get(version) ?? this.#inForce; }

  goBack(text) {
    this.#stand(text);
    this.write(text);
  }

  isHalfKnown() { this.#halfKnown = this.#awaited; }

  /** What the server says of a prompt. */
  hear({ version, text, state, message }) {
    if (state === "failed") {
      if (version === this.#awaited) this.#awaited = NONE;
      return toast(message || "The prompt could not be used.", true);
    }
    this.#texts.set(version, text);
    if (state === "pending" && version > 0) this.#awaited = version;
    if (state === "shown") this.#followed(version, text);
    if (message) toast(message);
    this.write(text);
  }

  /** The world began again under these words; those on their way come with it. */
  beginAgain(text) {
    if (this.#awaited === NONE) this.write(text);
  }

  write(text) {
    if (this.#draft !== null) this.#draft = text;
    else if (document.activeElement !== $("prompt")) $("prompt").value = text;
  }

  /** Show the words of a moment of the past; null = the field is for the next ones again. */
  look(words) {
    if (words !== null) this.#draft ??= $("prompt").value;
    const text = words ?? this.#draft;
    if (text !== null) $("prompt").value = text;
    if (words === null) this.#draft = null;
    $("prompt").readOnly = words !== null;
    $("prompt-label").textContent = words === null ? "The world in words" : "The world in words, as it was then";
  }

  /** Say whether a prompt is on its way. */
  draw(paused) {
    const awaits = this.#awaited !== NONE;
    $("prompt-state").classList.toggle("pending", awaits && !paused);
    $("prompt-state").textContent = !awaits ? "" : paused ? "waits until you go on" : "pending";
  }

  #stand(text) {
    this.#inForce = text;
    this.#awaited = NONE;
  }

  #followed(version, text) {
    const news = text !== this.#inForce || version === this.#awaited;
    this.#stand(text);
    if (news) toast(this.#halfKnown === version ? "The world follows what it knows of the prompt." : "The world follows the new prompt.");
  }

  #goThere(text) {
    $("prompt").value = text;
    $("prompt-form").requestSubmit();
  }

  #offer(presets, pictures) {
    $("presets").replaceChildren(new Option("Worlds", ""), ...presets.map((text) => new Option(text, text)));
    $("presets").hidden = !presets.length || pictures.length > 0;
    $("show-worlds").hidden = !pictures.length;
    $("world-list").replaceChildren(...pictures.map((address, i) => {
      const picture = made("img", { src: address, alt: "", loading: "lazy", width: 144, height: 96 });
      const card = made("button", { type: "button" }, picture, presets[i]);
      card.addEventListener("click", () => { $("worlds").close(); this.#goThere(presets[i]); });
      return card;
    }));
  }
}
