// Drives of earlier launchers: each can go on as another world. Words from outside only ever become text content.

import { $ } from "../dom.js";
import { clock } from "../say.js";

const LOOK_MS = 10_000;

/** How long ago, in words. */
function before(seconds) {
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]])
    if (seconds >= size) return new Intl.RelativeTimeFormat("en").format(-Math.floor(seconds / size), unit);
  return "just now";
}

export class PastDrives {
  #goOn; #ask; #shown = "";

  /** ask: of the server, see app.js; goOn: begins a world with what is posted. */
  constructor(ask, goOn) {
    [this.#ask, this.#goOn] = [ask, goOn];
    setInterval(() => { if (!document.hidden) this.look(); }, LOOK_MS);
    this.look();
  }

  /** See which there are now. */
  async look() {
    try {
      const { drives } = await (await this.#ask("drives")).json();
      this.#show(drives);
    } catch { /* the list of worlds says what is wrong */ }
  }

  #show(drives) {
    const key = JSON.stringify(drives.map(({ ago, ...drive }) => [drive, before(ago)]));
    if (key === this.#shown) return;
    this.#shown = key;
    const held = document.activeElement?.dataset.drive;
    $("go-on").hidden = !drives.length;
    $("drives").replaceChildren(...drives.map((drive) => this.#item(drive)));
    if (held) ([...$("drives").querySelectorAll("button")].find(({ dataset }) => dataset.drive === held) ?? $("new")).focus();
  }

  #item({ drive, name, prompt, seed, seconds, ended, ago }) {
    const item = $("drive").content.firstElementChild.cloneNode(true), button = item.querySelector("button");
    const called = name || "A world";
    item.querySelector("h3 span").textContent = called;
    Object.assign(item.querySelector("small"), { textContent: drive, title: "what --continue calls it" });
    item.querySelector(".prompt").textContent = prompt;
    item.querySelector(".state").textContent = `${ended ? "ended" : "cut off"} ${before(ago)} · ${clock(seconds)} long · seed ${seed}`;
    button.dataset.drive = drive;
    button.setAttribute("aria-label", `Go on with ${called}, ${drive}: ${prompt}`);
    button.addEventListener("click", () => this.#goOn(JSON.stringify({ drive })));
    return item;
  }
}
