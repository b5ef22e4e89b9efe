// The timeline: the last minute, a small picture of every latent. Who drives holds the world while looking back.

import { $, made } from "./dom.js";
import { clock } from "./say.js";

const MOST = 264, WIDEST = 192; // latents of which there is a picture; its pixels across

/** Emits: looked (detail = the prompt of that moment, null = now again), gone (detail = the latent to go back to). */
export class Timeline extends EventTarget {
  #link; #screen; #world;
  #seen = new Map(); // latent -> {picture: a canvas, prompt}
  #now = -1; // latent on the screen
  #oldest = null; // latent that one can go back to, null where nothing is kept
  #at = null; // latent that is looked at, null = now
  #held = false; // the world, by us

  constructor(link, screen, world) {
    super();
    this.#link = link;
    this.#screen = screen;
    this.#world = world;
    $("past").addEventListener("input", ({ target }) => this.#look(Number(target.value)));
    $("past").addEventListener("keydown", ({ key }) => {
      if (key === "Enter") this.go();
      if (key === "Escape") this.toNow();
    });
  }

  /** There is something to go back to. */
  get keeps() { return this.#oldest !== null; }

  /** A moment of the past is shown. */
  get looking() { return this.#at !== null; }

  see({ frame }, canvas, prompt) {
    const latent = Math.floor(frame / this.#world.info.frames_per_latent);
    if (latent === this.#now) return;
    this.#now = latent;
    if (!this.looking) this.#remember(latent, canvas, prompt);
    this.#draw();
  }

  /** What the server says each second. */
  set oldest(latent) {
    this.#oldest = latent ?? this.#oldest; // null once more while the world is on its way
    this.#draw();
  }

  /** The world stands before a latent of this or another stream: 0 = it began again. */
  cut(latent) {
    for (const later of [...this.#seen.keys()]) if (latent === 0 || later >= latent) this.#seen.delete(later);
    this.#now = latent - 1;
    this.leave();
    if (this.#world.driving) $("past").blur(); // the arrows steer again
  }

  /** Go on from the moment that is looked at. */
  go() {
    if (!this.looking || !this.#world.driving) return;
    const latent = this.#at;
    this.#screen.follow();
    this.leave();
    $("past").blur();
    this.dispatchEvent(new CustomEvent("gone", { detail: latent }));
  }

  ask(type) { this.#link.send(this.looking ? { type, latent: this.#at } : { type }); }

  toNow() {
    this.#release();
    $("past").blur();
  }

  /** Look at the world as it is. */
  leave() {
    const looked = this.looking;
    this.#at = null;
    this.#held = false;
    this.#screen.show(null);
    this.#draw();
    if (looked) this.#tell(null);
  }

  #release() {
    if (this.#held) this.#link.send({ type: "resume" });
    this.leave();
  }

  #look(latent) {
    if (latent >= this.#now) return this.#release();
    if (!this.looking && this.#world.driving && !this.#world.paused) {
      this.#link.send({ type: "pause" });
      this.#held = true;
    }
    this.#at = latent;
    let seen = latent;
    while (seen < this.#now && !this.#seen.has(seen)) seen++;
    const { picture = null, prompt = "" } = this.#seen.get(seen) ?? {};
    this.#screen.show(picture);
    this.#draw();
    this.#tell(prompt);
  }

  #tell(prompt) { this.dispatchEvent(new CustomEvent("looked", { detail: prompt })); }

  #remember(latent, canvas, prompt) {
    const scale = Math.min(1, WIDEST / canvas.width), size = { width: canvas.width * scale, height: canvas.height * scale };
    const picture = made("canvas", size);
    picture.getContext("2d").drawImage(canvas, 0, 0, picture.width, picture.height);
    this.#seen.set(latent, { picture, prompt });
    if (this.#seen.size > MOST) this.#seen.delete(this.#seen.keys().next().value);
  }

  #draw() {
    const range = $("past"), { looking } = this, { driving } = this.#world;
    range.disabled = !this.keeps || this.#now < 0;
    $("theatre").classList.toggle("back", looking);
    if (!looking) Object.assign(range, { min: this.#oldest ?? 0, max: Math.max(0, this.#now), value: Math.max(0, this.#now) });
    $("past-acts").hidden = !looking;
    $("go-from").disabled = $("branch").disabled = $("save-moment").disabled = !driving;
    const { frames_per_latent: rows = 4, fps = 16 } = this.#world.info ?? {};
    const ago = ((Number(range.max) - (this.#at ?? Number(range.max))) * rows) / fps;
    const words = looking ? `${ago < 60 ? `${ago.toFixed(2)} seconds` : clock(ago)} ago` : "now";
    if ($("past-at").textContent !== words) $("past-at").textContent = words;
    range.setAttribute("aria-valuetext", words);
  }
}
