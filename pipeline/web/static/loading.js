// The start of a world, stage by stage in plain words.

import { $, made } from "./dom.js";
import { say } from "./say.js";

const WORDS = {
  starting: "Waking the world", cluster: "Setting up its stage", places: "Finding room for the model", models: "Waking the model",
  prompt: "Reading the prompt", "first frame": "Dreaming the first picture",
};
const MOST_ROWS = 8;

export class Loading {
  #stages = []; // {stage, row, from, to}: seconds since the start
  #started = performance.now(); // on this page's clock

  report({ stage, percent, message, seconds }) {
    const words = WORDS[stage] ?? message ?? stage;
    this.#started = performance.now() - seconds * 1000;
    $("loading-now").textContent = words;
    if (percent == null) $("loading-bar").removeAttribute("value");
    else $("loading-bar").value = percent;
    if (this.#stages.at(-1)?.stage !== stage) this.#begin(stage, words, seconds);
    this.draw();
  }

  clear() {
    this.#stages.length = 0;
    $("loading-stages").replaceChildren();
  }

  draw() {
    const now = (performance.now() - this.#started) / 1000;
    for (const { row, from, to } of this.#stages) row.lastChild.textContent = `${((to ?? now) - from).toFixed(1)} s`;
  }

  #begin(stage, words, seconds) {
    if (this.#stages.length) this.#stages.at(-1).to = seconds;
    const row = made("li", {}, made("span", { textContent: words }), made("span"));
    $("loading-stages").append(row);
    this.#stages.push({ stage, row, from: seconds });
    say(words);
    while ($("loading-stages").children.length > MOST_ROWS) $("loading-stages").firstChild.remove();
  }
}
