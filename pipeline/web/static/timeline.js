// The timeline under the picture: the last minute as this page has seen it, a small picture of every latent. Look at a
// moment, go on from it, branch from it, save it. Who drives holds the world meanwhile; who watches only looks.

import { clock } from "./say.js";

const MOST = 264, WIDEST = 192; // latents of which there is a picture; its pixels across
const $ = (id) => document.getElementById(id);

export class Timeline {
  #link; #screen; #world; #gone;
  #pictures = new Map(); // latent -> canvas
  #now = -1; // latent on the screen
  #oldest = null; // latent that one can go back to, null where nothing is kept
  #at = null; // latent that is looked at, null = now
  #held = false; // the world, by us

  constructor(link, screen, world, gone) {
    this.#gone = gone; // called once the world was told to go back
    this.#link = link;
    this.#screen = screen;
    this.#world = world;
    $("past").addEventListener("input", ({ target }) => this.#look(Number(target.value)));
    $("past").addEventListener("keydown", ({ key }) => {
      if (key === "Enter") this.go();
      if (key === "Escape") this.toNow();
    });
  }

  get keeps() { return this.#oldest !== null; }

  /** A frame is on the display. */
  see({ frame }, canvas) {
    const latent = Math.floor(frame / this.#world.info.frames_per_latent);
    if (latent === this.#now) return;
    this.#now = latent;
    if (this.#at === null) this.#remember(latent, canvas);
    this.#draw();
  }

  /** What the server says each second. */
  set oldest(latent) {
    this.#oldest = latent ?? this.#oldest; // null once more while the world is on its way
    this.#draw();
  }

  /** The world stands before a latent of this or another stream: 0 = it began again. */
  cut(latent) {
    for (const later of [...this.#pictures.keys()]) if (latent === 0 || later >= latent) this.#pictures.delete(later);
    this.#now = latent - 1;
    this.leave();
  }

  /** Go on from the moment that is looked at. */
  go() {
    if (this.#at === null || !this.#world.driving) return;
    this.#link.send({ type: "rewind", latent: this.#at });
    this.#screen.follow();
    this.#release();
    $("past").blur();
    this.#gone();
  }

  /** A message about the moment that is looked at: branch, save. */
  ask(type) { this.#link.send(this.#at === null ? { type } : { type, latent: this.#at }); }

  toNow() {
    this.#release();
    $("past").blur();
  }

  /** Look at the world as it is. */
  leave() {
    this.#at = null;
    this.#held = false;
    this.#screen.show(null);
    this.#draw();
  }

  #release() {
    if (this.#held) this.#link.send({ type: "resume" });
    this.leave();
  }

  #look(latent) {
    if (latent >= this.#now) return this.#release();
    if (this.#at === null && this.#world.driving && !this.#world.paused) {
      this.#link.send({ type: "pause" });
      this.#held = true;
    }
    this.#at = latent;
    let seen = latent;
    while (seen < this.#now && !this.#pictures.has(seen)) seen++;
    this.#screen.show(this.#pictures.get(seen) ?? null);
    this.#draw();
  }

  #remember(latent, canvas) {
    const scale = Math.min(1, WIDEST / canvas.width), picture = document.createElement("canvas");
    picture.width = canvas.width * scale;
    picture.height = canvas.height * scale;
    picture.getContext("2d").drawImage(canvas, 0, 0, picture.width, picture.height);
    this.#pictures.set(latent, picture);
    if (this.#pictures.size > MOST) this.#pictures.delete(this.#pictures.keys().next().value);
  }

  #draw() {
    const range = $("past"), looking = this.#at !== null, driving = this.#world.driving;
    $("timeline").hidden = range.disabled = !this.keeps || this.#now < 0;
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
