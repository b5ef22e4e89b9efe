// Figures: the server's, and what only this page knows (transport, paint, key to photon).

import { $, made } from "./dom.js";

const KEEP_MS = 10000, KEEP_SAMPLES = 400;
const PARTS = [ // shown name, class, what the server calls it, what it is
  ["wait for a step", "wait", ["wait", "queue"], "until the model's next step begins"],
  ["DiT, dreaming", "dit", ["dit"], "the transformer makes what comes next"],
  ["decode to pictures", "decode", ["decode"], "the decoder makes pictures of it"],
  ["between processes", "hops", ["hop", "back"], "from one process to the next"],
  ["pacing to its turn", "pacing", ["pacing"], "finished, waiting for its turn"],
  ["transport to here", "transport", [], "from the server to this page"],
  ["paint", "paint", [], "this page decodes and draws it"],
];
const WHOLE = "from a key to its first picture";
const FACTS = { // what they are, where the name does not say it
  generated: "made by the model", painted: "shown by this page", "late slots": "they came after their turn",
  stalls: "times that the picture stood still", queue: "finished, waiting for their turn",
  drops: "left out on slow links", link: "what comes to this page", quality: "45 to 85; less on slow links",
  "round trip": "to the server and back", restarts: "repairs after a fault",
};

export class Figures {
  stats = {};
  #painted = []; // {at, transport, paint, bytes}
  #photons = [];
  #quality = 0;
  #codec = "–";

  /** A frame is on the display. */
  paint({ header, received, painted }, offset) {
    const transport = Math.max(0, received - (header.clock - offset));
    this.#painted.push({ at: painted, transport, paint: painted - received, bytes: header.bytes });
    while (this.#painted[0].at < painted - KEEP_MS) this.#painted.shift();
    this.#quality = header.quality;
    this.#codec = header.video ? "H.264" : "JPEG";
  }

  photon(ms) {
    this.#photons.push(ms);
    if (this.#photons.length > KEEP_SAMPLES) this.#photons.shift();
  }

  clear() { this.#painted = []; }

  get fps() {
    const now = performance.now(), from = Math.max(now - 3000, this.#painted[0]?.at ?? now);
    return now - from < 300 ? 0 : this.#painted.filter((frame) => frame.at > from).length / ((now - from) / 1000);
  }

  /** [name, class, p50, p95, what it is] for every part of the delay, then the whole. */
  split() {
    const server = this.stats.split_ms ?? {};
    const own = { transport: pair(this.#painted.map((f) => f.transport)), paint: pair(this.#painted.map((f) => f.paint)) };
    const rows = PARTS.map(([name, kind, keys, words]) => {
      if (own[kind]) return [name, kind, ...own[kind], words];
      const known = keys.map((key) => server[key]).filter(Boolean);
      const sum = (which) => known.reduce((total, part) => total + (part[which] ?? 0), 0);
      return [name, kind, known.length ? sum("p50") : null, known.length ? sum("p95") : null, words];
    });
    return [...rows, ["key to photon", "total", ...pair(this.#photons), WHOLE]];
  }

  /** The short facts around the split. */
  facts(link) {
    const { stats } = this, now = performance.now();
    const bits = this.#painted.filter((f) => f.at > now - 3000).reduce((sum, f) => sum + f.bytes * 8, 0) / 3000;
    return {
      rates: { generated: unit(stats.fps_generated, "FPS"), painted: unit(this.fps, "FPS") },
      link: {
        "late slots": stats.late_slots ?? 0, stalls: stats.stalls ?? 0,
        queue: unit(stats.queue_depth ?? 0, "", 0), drops: (stats.drops ?? 0) + (stats.mine?.dropped ?? 0),
        link: unit(bits, "kbit/s", 0), quality: this.#quality || "–", pictures: this.#codec, "comes by": link.polls ? "HTTP" : "socket",
        "round trip": unit(link.roundTrip, "ms"), restarts: stats.restarts ?? 0,
      },
    };
  }
}

/** Draw the figures into the page's panel. */
export function drawFigures(figures, link) {
  const { rates, link: facts } = figures.facts(link), split = figures.split();
  list($("hud-rates"), rates);
  list($("hud-link"), facts);
  $("hud-bar").replaceChildren(...split.filter(([, kind, p50]) => kind !== "total" && p50 > 0).map(([, kind, p50]) => {
    const part = made("i", { className: `part-${kind}` });
    part.style.flexGrow = p50;
    return part;
  }));
  const rows = $("hud-split");
  if (!rows.children.length) rows.append(...split.map(row));
  split.forEach(([, , p50, p95], i) => {
    const [, middle, high] = rows.children[i].cells;
    middle.textContent = unit(p50, "", 0);
    high.textContent = unit(p95, "", 0);
  });
}

function row([name, kind, , , words]) {
  const total = kind === "total", colour = total ? [] : [made("i", { className: `part-${kind}` })];
  return made("tr", { className: total ? "total" : "", title: words }, made("th", { scope: "row" }, ...colour, name), made("td"), made("td"));
}

/** Elements stay while values change: else nobody could read their titles. */
function list(element, facts) {
  const fact = ([name]) => made("div", { title: FACTS[name] ?? "" }, made("dt", { textContent: name }), made("dd"));
  if (!element.children.length) element.append(...Object.entries(facts).map(fact));
  Object.values(facts).forEach((value, i) => { element.children[i].lastChild.textContent = value; });
}

function unit(value, name, digits = 1) {
  return value == null || !Number.isFinite(value) ? "–" : `${value.toFixed(digits)}${name && " "}${name}`;
}

/** [p50, p95], nulls without samples. */
function pair(samples) {
  if (!samples.length) return [null, null];
  const sorted = [...samples].sort((a, b) => a - b);
  return [0.5, 0.95].map((q) => sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)]);
}
