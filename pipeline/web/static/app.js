// The page: wires link, screen, controls and figures to the document. Words from outside only ever become text content.

import { Controls } from "./controls.js";
import { Figures, draw } from "./figures.js";
import { Link } from "./link.js";
import { Screen } from "./screen.js";
import { countLatents, readReplay, replayFragment } from "./wire.js";

const REPEAT_MS = 250, TOAST_MS = 4000, IDLE_MS = 3000;
const $ = (id) => document.getElementById(id);
const theatre = $("theatre");

const link = new Link();
const screen = new Screen($("stage"), $("picture"), $("glow"));
const figures = new Figures();
const controls = new Controls({ keys: $("keys"), zones: $("zones"), busy: typing });

const world = { driving: false, watching: true, driven: false, paused: false, state: "starting", seed: null, frames: false, prompt: "", cursor: 0, recordingSince: 0, info: null };
const pressed = new Map(); // input seq -> when the key event happened
const awaited = []; // {cursor, at}: controls on their way to the picture
let seq = 0;

// --- the picture ---

link.addEventListener("frame", ({ detail }) => screen.offer(detail));
screen.addEventListener("painted", ({ detail }) => {
  const { header, painted } = detail;
  link.send({ type: "ack", epoch: header.epoch, frame: header.frame });
  figures.paint(detail, link.offset);
  if (!world.frames) { world.frames = true; phase(); }
  while (awaited.length && awaited[0].cursor <= header.cursor) {
    const { cursor, at } = awaited.shift();
    if (cursor !== header.cursor) continue; // overtaken by a newer control within the same latent
    figures.photon(painted - at);
    link.send({ type: "photon", ms: Math.min(painted - at, 60000) });
  }
});

// --- steering ---

controls.addEventListener("change", ({ detail: { held, source, at } }) => {
  for (const button of $("keys").children) {
    const lit = held.has(button.dataset.key);
    button.classList.toggle("lit", lit);
    button.setAttribute("aria-pressed", lit);
  }
  for (const zone of $("zones").children) zone.classList.toggle("lit", source === "touch" && held.has(zone.dataset.zone));
  if (world.driving || (held.size && !world.driven)) steer(source, at);
});
setInterval(() => { if (world.driving && link.up && !document.hidden) steer("repeat"); }, REPEAT_MS);

function steer(source, at) {
  const message = { type: "input", seq: ++seq, keys: [...controls.held], source };
  if (at !== undefined) pressed.set(message.seq, at);
  link.send(message);
}

// --- what the server says ---

const hear = {
  welcome({ world: info, state }) {
    world.info = info;
    $("name").textContent = info.name;
    document.title = `${info.name}, live`;
    $("presets").replaceChildren(new Option("Worlds", ""), ...info.presets.map((prompt) => new Option(prompt, prompt)));
    $("presets").hidden = !info.presets.length;
    $("prompt").value ||= state.prompt;
    world.ended = state.state === "ended" ? world.ended || "The show is over." : null;
    Object.assign(world, { state: state.state, seed: state.seed, paused: state.paused, prompt: state.prompt, cursor: 0 });
    world.frames &&= state.state !== "starting"; // a server that was started anew loads again
    stages.length = 0;
    $("loading-stages").replaceChildren();
    showRecording(0); // if one runs, its message follows
    $("files").hidden = true; // of a server before this one
    showFiles(state.files);
    offerReplay();
    phase();
  },
  status({ stage, percent, message, seconds }) {
    if (!world.frames) stageReport(stage, percent, message, seconds);
    else if (percent != null && percent < 100) banner(`${message}`, true);
    else banner("");
  },
  role({ role, watching, driven }) {
    world.driving = role === "driver";
    world.watching = !world.driving;
    world.driven = driven;
    const others = watching - (world.driving ? 0 : 1);
    const company = others ? `${others} watching, ` : "";
    $("role-text").textContent = company + (world.driving ? "you drive" : driven ? "you watch" : "nobody drives");
    $("take").hidden = world.driving;
    $("keys").classList.toggle("watching", driven && !world.driving);
    phase();
    say(world.driving ? "You drive." : "You are watching.");
  },
  received({ seq: which, cursor }) {
    const at = pressed.get(which);
    pressed.delete(which);
    if (at !== undefined && cursor > world.cursor) awaited.push({ cursor, at });
    world.cursor = Math.max(cursor, world.cursor);
  },
  applied() {},
  prompt({ version, text, state, message }) {
    const output = $("prompt-state"), pending = state === "pending" && version > 0;
    output.classList.toggle("pending", pending);
    output.textContent = pending ? "pending" : "";
    if (state === "failed") return toast(message || "The prompt could not be used.", true);
    if (state === "shown" && world.prompt !== text) toast("The world follows the new prompt.");
    world.prompt = text;
    if (document.activeElement !== $("prompt")) $("prompt").value = text;
  },
  reset({ seed, prompt }) {
    world.seed = seed;
    $("seed-value").textContent = seed;
    awaited.length = 0;
    if (prompt && document.activeElement !== $("prompt")) $("prompt").value = prompt;
  },
  paused({ paused }) {
    world.paused = paused;
    $("pause").setAttribute("aria-pressed", paused);
    $("pause").textContent = paused ? "Go on" : "Pause";
    $("paused-mark").hidden = !paused;
    awaited.length = 0;
    figures.clear();
    phase();
  },
  record({ state, seconds, message, files }) {
    const on = state === "started";
    showRecording(on && performance.now() - (seconds ?? 0) * 1000);
    showFiles(files);
    if (state === "failed") toast(message || "The recording failed.", true);
    else say(on ? "Recording." : "Recording stopped; the files are linked below the prompt.");
  },
  stats(stats) {
    figures.stats = stats;
    if (world.state !== stats.state) { world.state = stats.state; phase(); }
  },
  notice({ level, message }) { toast(message, level !== "info"); },
  error({ message }) { toast(message, true); },
  take(take) {
    if (!take.latents) return toast("There is nothing to replay yet.");
    copy(new URL("./" + replayFragment(take), document.baseURI).href, "Replay link copied.");
  },
  bye({ reason }) {
    world.ended = reason || "The show is over.";
    phase();
  },
};
link.addEventListener("message", ({ detail }) => hear[detail.type]?.(detail));
link.addEventListener("open", () => { world.lost = null; });
link.addEventListener("blocked", () => toast("WebSockets are blocked on the way here (a proxy or a filter?). Going on over plain HTTP: slower, but it works.", true));
link.addEventListener("lost", ({ detail }) => {
  if (!world.lost && !world.ended) say("Connection lost. Keys released.");
  world.lost = detail;
  world.driving = false;
  controls.release();
  pressed.clear();
  awaited.length = 0;
  figures.clear();
  phase();
});

// --- phases: connecting, loading, live, paused, lost, ended ---

function phase() {
  const now = world.ended ? "ended" : world.lost ? (world.info ? "lost" : "connecting") : !world.info ? "connecting"
    : !world.frames ? "loading" : world.paused ? "paused" : "live";
  const words = { connecting: "Connecting", loading: "Loading", live: "Live", paused: "Paused", lost: "Lost", ended: "Ended" };
  const shown = now === "live" && world.state === "rebuilding" ? "Restoring" : words[now];
  if ($("state-text").textContent !== shown) { $("state-text").textContent = shown; say(shown); }
  theatre.dataset.phase = now;
  theatre.classList.toggle("seen", world.frames);
  $("loading").hidden = world.frames || now === "ended";
  const gone = now === "lost" || now === "ended" || now === "connecting";
  $("role").hidden = $("replay").disabled = gone;
  for (const id of ["presets", "prompt-send", "pause", "reset", "new-seed", "record"]) $(id).disabled = gone || !world.driving;
  $("prompt").disabled = world.watching || now === "ended"; // a short loss must not interrupt somebody who types
  if (world.lost?.locked) banner("This world has a new key: open the address that the program printed last.");
  else if (now === "lost") banner("Connection lost. Keys released, reconnecting…");
  else if (now === "ended") banner(world.ended);
  else if (shown === "Restoring") banner("A part is being rebuilt; the same world goes on in a moment.", true);
  else banner("");
  if (now === "connecting" && world.lost) $("loading-now").textContent = "Waiting for the server";
}

function banner(text, calm = false) {
  $("banner").classList.toggle("calm", calm);
  if ($("banner").textContent !== text) $("banner").textContent = text;
  $("banner").hidden = !text;
}

const stages = []; // {stage, row, from}: seconds since the start at which each began
let started = 0; // when the server began to start, on this page's clock
function stageReport(stage, percent, message, seconds) {
  started = performance.now() - seconds * 1000;
  $("loading-now").textContent = message || stage;
  if (percent == null) $("loading-bar").removeAttribute("value");
  else $("loading-bar").value = percent;
  if (stages.at(-1)?.stage !== stage) {
    if (stages.length) stages.at(-1).to = seconds;
    const row = $("loading-stages").appendChild(document.createElement("li"));
    row.append(document.createElement("span"), document.createElement("span"));
    stages.push({ stage, row, from: seconds });
    say(message || stage);
    while ($("loading-stages").children.length > 8) $("loading-stages").firstChild.remove();
  }
  stages.at(-1).row.firstChild.textContent = message || stage;
  drawStages();
}

function drawStages() {
  const now = (performance.now() - started) / 1000;
  for (const { row, from, to } of stages) row.lastChild.textContent = `${((to ?? now) - from).toFixed(1)} s`;
}

// --- prompt, seed, recording, replay ---

$("prompt-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!world.driving) return toast("Not connected just now; try again in a moment.", true);
  link.send({ type: "prompt", prompt: $("prompt").value });
  $("prompt").blur();
});
$("presets").addEventListener("change", () => {
  if ($("presets").value) $("prompt").value = $("presets").value;
  $("presets").value = "";
  $("presets").blur();
  $("prompt-form").requestSubmit();
});
const actions = {
  pause: () => link.send({ type: world.paused ? "resume" : "pause" }),
  reset: () => link.send({ type: "reset" }),
  "new-seed": () => link.send({ type: "reset", seed: null }),
  record: () => link.send({ type: "record", on: !world.recordingSince }),
  replay: () => link.send({ type: "take" }),
  seed: () => copy(String(world.seed), "Seed copied."),
  take: () => link.send({ type: "take_control" }),
  fullscreen: () => (document.fullscreenElement ? document.exitFullscreen() : theatre.requestFullscreen?.()),
  "show-hud": () => {
    $("hud").hidden = !$("hud").hidden;
    $("show-hud").setAttribute("aria-pressed", !$("hud").hidden);
    drawFigures();
  },
  "show-help": () => { controls.release(); if ($("help").open) $("help").close(); else $("help").showModal(); },
};
for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", ({ detail: clicks }) => {
  if (clicks) $(id).blur(); // after a mouse the keys drive on: Space pauses, and does not press the button again
  action();
});

const SHORTCUTS = { Space: "pause", KeyR: "reset", KeyN: "new-seed", KeyV: "record", KeyH: "show-hud", KeyF: "fullscreen" };
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.code === "Escape" && typing(event.target)) return event.target.blur();
  if (inField(event.target) || $("ask").open) return;
  if (event.key === "?") return event.preventDefault(), actions["show-help"]();
  if ($("help").open) return;
  if (event.code === "KeyT") return event.preventDefault(), $("prompt").focus(), $("prompt").select();
  const id = SHORTCUTS[event.code];
  if (!id || $(id).disabled || (event.code === "Space" && event.target.closest?.("button, a"))) return;
  event.preventDefault();
  actions[id]();
});

function offerReplay() {
  const drive = readReplay(location.hash);
  if (!drive || $("ask").open) return;
  const latents = drive.parts.reduce((sum, part) => sum + countLatents(part.controls), 0);
  const seconds = (latents * world.info.frames_per_latent) / world.info.fps;
  $("ask-text").textContent = `${clock(seconds)} minutes from seed ${drive.seed}: “${drive.parts[0].prompt}”`;
  $("ask").returnValue = "";
  $("ask").showModal();
  $("ask").onclose = () => {
    history.replaceState(null, "", "./");
    if ($("ask").returnValue === "yes") link.send(drive);
  };
}

/** The record button; since = when the recording began on this page's clock, 0 = none runs. */
function showRecording(since) {
  world.recordingSince = since;
  $("record").setAttribute("aria-pressed", Boolean(since));
  $("record-text").textContent = since ? clock((performance.now() - since) / 1000) : "Record";
}

function showFiles(addresses = []) {
  if (!addresses.length) return;
  $("files").hidden = false;
  $("files").replaceChildren(...addresses.map((address) => {
    const item = document.createElement("li"), anchor = document.createElement("a");
    Object.assign(anchor, { href: address, download: "", textContent: address.split("/").pop() });
    item.append(anchor);
    return item;
  }));
}

// --- small things ---

function inField(target) { return Boolean(target?.closest?.("input, select, textarea")); }

/** Whether keys belong to a field or a dialog rather than to the car. */
function typing(target) { return inField(target) || $("help").open || $("ask").open; }

/** Copy text; plain http pages have no clipboard of the modern kind. */
async function copy(text, done) {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else {
      const field = Object.assign(document.createElement("textarea"), { value: text, className: "unseen" });
      document.body.append(field);
      field.select();
      const copied = document.execCommand("copy");
      field.remove();
      if (!copied) throw new Error("refused");
    }
    toast(done);
  } catch {
    prompt("Copy this:", text);
  }
}

function toast(text, bad = false) {
  const item = Object.assign(document.createElement("p"), { textContent: text, className: bad ? "bad" : "" });
  $("toasts").append(item);
  while ($("toasts").children.length > 3) $("toasts").firstChild.remove();
  say(text);
  setTimeout(() => item.remove(), TOAST_MS);
}

function say(text) { $("announcer").textContent = text; }

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

function drawFigures() { if (!$("hud").hidden) draw($("hud"), figures, link); }
setInterval(() => {
  drawFigures();
  if (!world.frames) drawStages();
  if (world.recordingSince) showRecording(world.recordingSince);
}, 500);

let idle = 0;
for (const kind of ["pointermove", "pointerdown", "focusin"]) addEventListener(kind, () => {
  clearTimeout(idle);
  theatre.classList.remove("idle");
  idle = setTimeout(() => theatre.classList.add("idle"), IDLE_MS);
});
