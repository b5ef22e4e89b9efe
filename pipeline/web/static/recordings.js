// Recordings of this run: the running one's clock, the drawer of the finished ones.

import { $, made } from "./dom.js";
import { clock, say, toast } from "./say.js";

const KIND = /\.(mp4|world)$/; // what can be renamed and deleted

export class Recordings {
  #send;
  #names = [];
  #on = false;
  #paused = false;
  #seconds = 0; // before the clock last started: it stands while the world is paused
  #since = 0;

  constructor(send) { this.#send = send; }

  get names() { return this.#names; }

  toggle() { this.#send({ type: "record", on: !this.#on }); }

  hear({ state, seconds, files }) {
    this.run(state === "started", seconds);
    if (files?.length) this.show(files);
    if (state === "failed") return; // a notice says why
    if (state === "stopped" && !seconds) toast("Nothing was shown meanwhile, so no video was recorded.");
    else if (state === "stopped") toast("Recorded; it lies under “Drives”.");
    else say("Recording.");
  }

  run(on, seconds = 0) {
    $("record").setAttribute("aria-pressed", on);
    this.#on = on;
    this.#start(on ? seconds ?? 0 : 0);
  }

  pause(paused) {
    const seconds = this.#recorded;
    this.#paused = paused;
    this.#start(seconds);
  }

  draw() { $("record-text").textContent = this.#on ? clock(this.#recorded) : "Record"; }

  show(addresses) {
    this.#names = addresses.map((address) => address.split("/").pop());
    $("files").replaceChildren(...addresses.map((address, i) => this.#row(address, this.#names[i])));
    $("no-files").hidden = addresses.length > 0;
    $("drawer-count").textContent = this.#names.filter((name) => KIND.test(name)).length || "";
  }

  get #recorded() { return this.#seconds + (this.#paused ? 0 : (performance.now() - this.#since) / 1000); }

  #start(seconds) {
    this.#seconds = seconds;
    this.#since = performance.now();
    this.draw();
  }

  #row(address, name) {
    const row = made("li", {}, made("a", { href: address, download: "", textContent: name }));
    if (!KIND.test(name)) return row;
    const stem = name.replace(KIND, "");
    row.append(button("Rename", () => {
      const to = prompt("A new name:", stem);
      if (to && to !== stem) this.#send({ type: "rename", name, to });
    }), button("Delete", () => {
      if (confirm(`Delete ${name}${name.endsWith(".mp4") ? " and its control log" : ""}?`)) this.#send({ type: "delete", name });
    }));
    return row;
  }
}

function button(text, action) {
  const element = made("button", { type: "button", textContent: text, className: "quiet" });
  element.addEventListener("click", action);
  return element;
}
