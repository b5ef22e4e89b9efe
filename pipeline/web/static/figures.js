// The figures: what the server says each second and what only this page can know (transport, paint, key to photon).

const KEEP_MS = 10000, KEEP_SAMPLES = 400;
const PARTS = [ // shown name, class, what the server calls it
  ["wait for a step", "wait", ["wait", "queue"]],
  ["DiT", "dit", ["dit"]],
  ["decode", "decode", ["decode"]],
  ["hops", "hops", ["hop", "back"]],
  ["pacing", "pacing", ["pacing"]],
  ["transport", "transport", []],
  ["paint", "paint", []],
];

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

  /** A control took this long from its key event to the paint of its first picture. */
  photon(ms) {
    this.#photons.push(ms);
    if (this.#photons.length > KEEP_SAMPLES) this.#photons.shift();
  }

  clear() { this.#painted = []; }

  get fps() {
    const now = performance.now(), from = Math.max(now - 3000, this.#painted[0]?.at ?? now);
    return now - from < 300 ? 0 : this.#painted.filter((frame) => frame.at > from).length / ((now - from) / 1000);
  }

  /** [name, class, p50, p95] for every part of the delay, then the whole. */
  split() {
    const server = this.stats.split_ms ?? {};
    const own = { transport: pair(this.#painted.map((f) => f.transport)), paint: pair(this.#painted.map((f) => f.paint)) };
    const rows = PARTS.map(([name, kind, keys]) => {
      if (own[kind]) return [name, kind, ...own[kind]];
      const known = keys.map((key) => server[key]).filter(Boolean);
      const sum = (which) => known.reduce((total, part) => total + (part[which] ?? 0), 0);
      return [name, kind, known.length ? sum("p50") : null, known.length ? sum("p95") : null];
    });
    return [...rows, ["key to photon", "total", ...pair(this.#photons)]];
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
export function draw(panel, figures, link) {
  const { rates, link: facts } = figures.facts(link);
  list(panel.querySelector("#hud-rates"), rates);
  list(panel.querySelector("#hud-link"), facts);
  const split = figures.split();
  const bar = panel.querySelector("#hud-bar"), rows = panel.querySelector("#hud-split");
  bar.replaceChildren(...split.filter(([, kind, p50]) => kind !== "total" && p50 > 0).map(([, kind, p50]) => {
    const part = document.createElement("i");
    part.className = `part-${kind}`;
    part.style.flexGrow = p50;
    return part;
  }));
  rows.replaceChildren(...split.map(([name, kind, p50, p95]) => {
    const row = document.createElement("tr"), head = document.createElement("th");
    head.scope = "row";
    row.className = kind === "total" ? "total" : "";
    if (kind !== "total") head.append(Object.assign(document.createElement("i"), { className: `part-${kind}` }));
    head.append(name);
    row.append(head, cell(unit(p50, "", 0)), cell(unit(p95, "", 0)));
    return row;
  }));
}

function list(element, facts) {
  element.replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const group = document.createElement("div");
    group.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }));
    return group;
  }));
}

function cell(text) { return Object.assign(document.createElement("td"), { textContent: text }); }

function unit(value, name, digits = 1) {
  return value == null || !Number.isFinite(value) ? "–" : `${value.toFixed(digits)}${name && " "}${name}`;
}

/** [p50, p95], nulls without samples. */
function pair(samples) {
  if (!samples.length) return [null, null];
  const sorted = [...samples].sort((a, b) => a - b);
  return [0.5, 0.95].map((q) => sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)]);
}
