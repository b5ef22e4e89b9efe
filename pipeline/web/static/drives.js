// Drives as links and files, the question before a replay; worlds as files.

import { $, made } from "./dom.js";
import { clock, copy, toast } from "./say.js";
import { countLatents, isDrive, readReplay, replayFragment } from "./wire.js";

const LARGEST_FILE = 4_000_000; // bytes; an hour of a changing hand

/** Emits: chosen (detail = a drive to be driven again), opened (detail = the file's name). */
export class Drives extends EventTarget {
  #link; #world;
  #file = null; // a world on its way to the server

  constructor(link, world) {
    super();
    this.#link = link;
    this.#world = world;
    addEventListener("hashchange", () => this.offerLink());
    $("open-drive").addEventListener("change", ({ target }) => { if (target.files[0]) this.#open(target.files[0]); target.value = ""; });
    for (const kind of ["change", "cancel"]) $("open-drive").addEventListener(kind, ({ target }) => target.blur()); // the keys drive on
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) this.#open(event.dataTransfer.files[0]); });
  }

  copyLink(take) {
    const address = new URL("./" + replayFragment(take), document.baseURI);
    const here = ["localhost", "127.0.0.1", "[::1]"].includes(address.hostname);
    copy(address.href, here ? "Replay link copied. It opens in this browser; for others save the drive as a file." : "Replay link copied.");
  }

  save(take) {
    const { seed, model, parts } = take;
    const address = URL.createObjectURL(new Blob([JSON.stringify({ type: "replay", seed, model, parts }, null, 1)], { type: "application/json" }));
    made("a", { href: address, download: `drive-${seed}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  offerLink() {
    const drive = readReplay(location.hash);
    if (drive) this.#ask(drive, () => history.replaceState(null, "", "./"));
  }

  async send(address) {
    const answer = await fetch(address, { method: "POST", body: this.#file, cache: "no-store" }).catch(() => null);
    if (answer?.ok) this.#tell("opened", this.#file.name);
    else toast(answer ? await answer.text() : "The file could not be sent.", true);
  }

  #openWorld(file) {
    this.#file = file;
    if (this.#world.watching) toast("You are watching; take control to open a world.", true);
    else this.#link.send({ type: "open" });
  }

  async #open(file) {
    if (file.name.endsWith(".world")) return this.#openWorld(file);
    try {
      const drive = file.size <= LARGEST_FILE && JSON.parse(await file.text());
      if (!isDrive(drive)) throw new Error("no drive");
      this.#ask(drive, () => {});
    } catch {
      const log = file.name.endsWith(".jsonl") ? " A control log is followed by a start with --replay." : "";
      toast(`There is no drive in ${file.name}: expected a file of “Save this drive” or “Save this world”.${log}`, true);
    }
  }

  #ask(drive, used) {
    if ($("ask").open || !this.#world.info) return;
    if (this.#world.guest) return toast("You only watch here.", true);
    if (drive.model && drive.model !== this.#world.info.model) return toast("That drive is of other weights: start with those (MODEL_PATH).", true);
    const latents = drive.parts.reduce((sum, part) => sum + countLatents(part.controls), 0);
    const seconds = (latents * this.#world.info.frames_per_latent) / this.#world.info.fps;
    $("ask-text").textContent = `${clock(seconds)} minutes from seed ${drive.seed}: “${drive.parts[0].prompt}”`;
    $("ask-yes").textContent = this.#world.watching ? "Take the wheel and replay" : "Replay";
    $("ask").returnValue = "";
    $("ask").showModal();
    $("ask").onclose = () => {
      if ($("ask").returnValue !== "yes") return;
      used();
      if (this.#world.watching) this.#link.send({ type: "take_control" });
      this.#tell("chosen", drive);
    };
  }

  #tell(type, detail) { this.dispatchEvent(new CustomEvent(type, { detail })); }
}
