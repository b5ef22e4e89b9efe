// The page: its parts wired together. Words from outside only ever become text content.

import { Controls } from "./controls.js";
import { $, made } from "./dom.js";
import { Drives } from "./drives.js";
import { Figures, drawFigures } from "./figures.js";
import { hideMotion, showMotion } from "./instrument.js";
import { Keymap, placeOf } from "./keymap.js";
import { token } from "./key.js";
import { Link } from "./link.js";
import { Loading } from "./loading.js";
import { Prompt } from "./prompt.js";
import { Recordings } from "./recordings.js";
import { banner, clock, copy, offer, say, toast } from "./say.js";
import { Screen } from "./screen.js";
import { Settings } from "./settings.js";
import { Timeline } from "./timeline.js";
import { KEYS, keysOf } from "./wire.js";

const REPEAT_MS = 250, IDLE_MS = 3000, WHOLE_LINE_MS = 15000;
const theatre = $("theatre");

const world = {
  driving: false, watching: true, driven: false, paused: false, state: "starting", seed: null, frames: false, cursor: 0, info: null,
  slow: "", slowSince: 0, driveFor: "copy", guest: false, // guest: came by a watcher's link
  follows: null, // latents to come of a drive that is replayed
};
const link = new Link();
const screen = new Screen($("stage"), $("picture"), $("glow"));
const figures = new Figures();
const loading = new Loading();
const keymap = new Keymap();
const controls = new Controls({ keys: $("keys"), zones: $("zones"), busy: elsewhere, keymap });
const settings = new Settings(keymap);
const recordings = new Recordings((message) => link.send(message));
const drives = new Drives(link, world);
const timeline = new Timeline(link, screen, world);
const prompt = new Prompt((text) => {
  if (!world.driving) return toast("Not connected just now; try again in a moment.", true);
  link.send({ type: "prompt", prompt: text });
  $("prompt").blur();
});
const pressed = new Map(); // input seq -> when the key event happened
const awaited = []; // {cursor, at}: controls on their way to the picture
let seq = 0, still = null; // still: the note why the car does not follow

// --- the picture ---

link.addEventListener("frame", ({ detail }) => screen.offer(detail));
screen.addEventListener("painted", ({ detail }) => {
  const { header, painted } = detail;
  link.send({ type: "ack", epoch: header.epoch, frame: header.frame });
  figures.paint(detail, link.offset);
  timeline.see(header, $("picture"), prompt.of(header.promptVersion));
  if (world.follows) light(keysOf(header.control));
  if (!world.frames) {
    world.frames = true;
    phase();
    if (world.driving) greet();
  }
  while (awaited.length && awaited[0].cursor <= header.cursor) {
    const { cursor, at } = awaited.shift();
    if (cursor !== header.cursor) continue; // overtaken by a newer control within the same latent
    figures.photon(painted - at);
    link.send({ type: "photon", ms: Math.min(painted - at, 60000) });
  }
});
screen.addEventListener("undecoded", () => link.send({ type: "video", on: false }));

// --- steering ---

controls.addEventListener("change", ({ detail: { held, source, at } }) => {
  if (!world.follows) light();
  for (const zone of $("zones").children) zone.classList.toggle("lit", steers() && source === "touch" && held.has(zone.dataset.zone));
  if (steers() && (world.driving || held.size)) steer(source, at);
  if (world.driving && held.size) sayWhyStill(source === "touch");
});
setInterval(() => { if (world.driving && link.up && !document.hidden) steer("repeat"); }, REPEAT_MS);

const steers = () => world.driving || (!world.driven && !world.guest);

/** Light keys: those that steer, or a replay's. */
function light(keys = steers() ? controls.held : new Set()) {
  for (const button of $("keys").children) {
    const lit = keys.has(button.dataset.key);
    button.classList.toggle("lit", lit);
    button.setAttribute("aria-pressed", lit);
  }
}

function steer(source, at) {
  const message = { type: "input", seq: ++seq, keys: [...controls.held], source };
  if (at !== undefined) pressed.set(message.seq, at);
  link.send(message);
}

function sayWhyStill(touched) {
  const [key] = touched ? [] : keymap.caps("pause");
  if (timeline.looking) still = toast(touched ? "You look back: “Drive on from here”, or “Back to now”." : "You look back: Enter drives on from here, Esc comes back to now.");
  else if (world.paused) still = toast(`Paused: ${key ?? "“Go on”"} goes on.`);
  else if (world.follows) still = toast("This is a replay: keys steer after it.");
}

// --- what the server says ---

const hear = {
  welcome({ world: info, state, link: by }) {
    world.info = info;
    world.guest = by === "watcher";
    $("branch").hidden = !state.branches;
    $("lobby").hidden = by !== "owner";
    $("timeline").hidden = $("save-world").hidden = !info.moments;
    $("name").textContent = info.name;
    document.title = `${info.name}, live`;
    screen.shape(info);
    hideMotion();
    prompt.begin(state.prompt, info);
    world.ended = state.state === "ended" ? world.ended || "The show is over." : null;
    Object.assign(world, { state: state.state, seed: state.seed, paused: state.paused, cursor: 0 });
    world.frames &&= state.state !== "starting"; // a server that was started anew loads again
    loading.clear();
    recordings.pause(state.paused);
    recordings.run(false); // if one runs, its message follows
    recordings.show(state.files ?? []);
    drives.offerLink();
    phase();
  },
  status(report) {
    if (!world.frames) loading.report(report);
  },
  role({ role, watching, driven }) {
    const lost = world.driving && role !== "driver";
    world.driving = role === "driver";
    world.watching = !world.driving;
    world.driven = driven;
    const others = watching - (world.driving ? 0 : 1);
    const company = others ? `${others} watching, ` : "";
    $("role-text").textContent = company + (world.driving ? "you drive" : driven || world.guest ? "you watch" : "nobody drives");
    $("take").hidden = world.driving || world.guest;
    $("keys").classList.toggle("watching", (driven || world.guest) && !world.driving);
    phase();
    if (lost && driven) offer("Somebody else took the wheel; you watch now.", "Take it back", actions.take);
    else say(world.driving ? "You drive." : "You are watching.");
  },
  received({ seq: which, cursor }) {
    const at = pressed.get(which);
    pressed.delete(which);
    if (at !== undefined && cursor > world.cursor) awaited.push({ cursor, at });
    world.cursor = Math.max(cursor, world.cursor);
  },
  applied() {}, // for programs, as moments is
  moments() {},
  prompt(told) {
    prompt.hear(told);
    phase();
  },
  reset({ seed, prompt: text }) {
    stand(seed);
    timeline.cut(0);
    if (text) prompt.beginAgain(text);
    phase();
  },
  rewound({ latent, ...place }) {
    stand(place.seed);
    timeline.cut(latent);
    prompt.goBack(place.prompt);
    phase();
  },
  saved({ name, file }) {
    made("a", { href: file, download: "" }).click();
    toast(`Saved as ${name}; it lies under “Drives” too.`);
  },
  branched({ address }) {
    if (!open(address, "_blank")) offer("A second world is ready.", "Open it", () => open(address, "_blank"));
  },
  upload({ address }) { drives.send(address); },
  paused({ paused }) {
    if (!paused && world.driving) timeline.leave();
    world.paused = paused;
    recordings.pause(paused);
    $("paused-mark").hidden = !paused;
    awaited.length = 0;
    figures.clear();
    phase();
  },
  record(told) { recordings.hear(told); },
  recordings({ files }) { recordings.show(files); },
  stats(stats) {
    figures.stats = stats;
    timeline.oldest = stats.oldest;
    if (world.follows && !stats.follows) toast(`The replay is over${world.driving ? "; you drive." : "."}`);
    follow(stats.follows);
    if (!world.slow && stats.slow) world.slowSince = performance.now();
    Object.assign(world, { state: stats.state, slow: stats.slow ?? "" });
    phase();
  },
  motion(told) { showMotion(told); },
  notice({ level, about, message }) {
    if (about === "prompt") prompt.isHalfKnown();
    if (about !== "speed") toast(message, level !== "info"); // the banner tells of the speed
  },
  error({ message }) { toast(message, true); },
  take(drive) {
    const purpose = world.driveFor;
    world.driveFor = "copy";
    if (purpose === "undo") return drive.latents && offerUndo("The world began again.", "Drive the last drive again", () => again(drive));
    if (!drive.latents) return toast("There is nothing to replay yet.");
    if (purpose === "save") drives.save(drive);
    else drives.copyLink(drive);
  },
  bye({ reason }) {
    world.ended = farewell(reason);
    follow();
    phase();
  },
};
link.addEventListener("message", ({ detail }) => hear[detail.type]?.(detail));
link.addEventListener("open", () => { world.lost = null; });
link.addEventListener("blocked", () => toast("WebSockets are blocked on the way here (a proxy, a filter?): going on over plain HTTP, slower.", true));
link.addEventListener("lost", ({ detail }) => {
  if (!world.lost && !world.ended) say("Connection lost. Keys released.");
  if (detail.gone) world.ended ||= "This world has ended.";
  world.lost = detail;
  world.driving = false;
  controls.release();
  follow();
  pressed.clear();
  awaited.length = 0;
  figures.clear();
  phase();
});
timeline.addEventListener("looked", ({ detail }) => {
  prompt.look(detail);
  if (detail === null) still?.remove();
  phase();
});
timeline.addEventListener("gone", ({ detail: latent }) => {
  goOnElsewhere({ type: "rewind", latent });
  offerBack("The world went back.");
});
drives.addEventListener("chosen", ({ detail: drive }) => beginAgain(drive));
drives.addEventListener("opened", ({ detail: name }) => {
  link.send({ type: "resume" });
  offerBack(`The world goes on from ${name}.`);
});

/** A drive is replayed, so many latents still; null: none is. */
function follow(latents = null) {
  world.follows = latents;
  if (!latents) light();
}

/** The world stands elsewhere: nothing that was pressed before is on its way now. */
function stand(seed) {
  world.seed = seed;
  follow(); // the next figures tell of another one
  $("seed-value").textContent = seed;
  awaited.length = 0;
}

/** What steers it, said once in each browser. */
function greet() {
  try {
    if (localStorage.getItem("greeted")) return;
    localStorage.setItem("greeted", "yes");
  } catch { return; }
  const keys = ["straight", "left", "reverse", "right"].map((action) => keymap.caps(action)[0]).join(" ");
  toast(matchMedia("(pointer: coarse)").matches ? "Hold the left or right side of the picture to steer." : `Steer with ${keys}; ? shows every key.`);
}

function farewell(reason) {
  const why = /^stopped by SIG/.test(reason) ? "The world was stopped on its computer." : reason || "The show is over.";
  const { names } = recordings;
  return names.length ? `${why} Its recordings stay there: ${names.join(", ")}.` : why;
}

// --- phases: connecting, loading, live, paused, lost, ended ---

function phase() {
  const now = world.ended ? "ended" : world.lost ? (world.info ? "lost" : "connecting") : !world.info ? "connecting"
    : !world.frames ? "loading" : world.paused ? "paused" : "live";
  const words = { connecting: "Connecting", loading: "Loading", paused: "Paused", lost: "Lost", ended: "Ended" };
  const shown = now !== "live" ? words[now] : world.state === "rebuilding" ? "Restoring" : world.follows ? "Replay" : "Live";
  if (world.shown !== shown) say((world.shown = shown));
  $("state-text").textContent = shown + (shown === "Replay" ? `, ${clock((world.follows * world.info.frames_per_latent) / world.info.fps)} to go` : "");
  theatre.dataset.phase = now;
  theatre.classList.toggle("seen", world.frames);
  $("loading").hidden = world.frames || now === "ended";
  enable(now === "lost" || now === "ended" || now === "connecting");
  $("prompt").disabled = world.watching || now === "ended"; // a short loss must not interrupt somebody who types
  $("pause").setAttribute("aria-pressed", world.paused);
  $("pause").textContent = timeline.looking && world.driving ? "To now" : world.paused ? "Go on" : "Pause";
  prompt.draw(world.paused);
  if (!world.paused && !timeline.looking && !world.follows) still?.remove();
  explain(now, shown);
}

/** What can be pressed. gone: the world is not there. */
function enable(gone) {
  const still = gone || !world.driving;
  for (const id of ["pause", "reset", "new-seed", "record", "save-world"]) $(id).disabled = still;
  for (const id of ["presets", "show-worlds", "prompt-send"]) $(id).disabled = still || timeline.looking; // the field shows words of then
  $("role").hidden = $("replay").disabled = $("save-drive").disabled = gone;
  if (gone) $("drawer").hidden = true; // its links lead nowhere now
}

/** The banner: what is wrong, if anything is. */
function explain(now, shown) {
  if (world.lost?.locked) banner("This world has a new key: open the address that the program printed last.");
  else if (now === "lost") banner("Connection lost. Keys released, reconnecting…");
  else if (now === "ended") banner(world.ended);
  else if (shown === "Restoring") banner("A part is being rebuilt; the same world goes on in a moment.", true);
  else if (now === "live" && world.slow) banner(slowLine(), true);
  else banner("");
  if (now === "connecting" && world.lost) $("loading-now").textContent = "Waiting for the server";
}

function slowLine() {
  return performance.now() - world.slowSince < WHOLE_LINE_MS ? world.slow : world.slow.split(", ")[0];
}

// --- what buttons and keys do ---

const actions = {
  pause: () => (timeline.looking ? timeline.toNow() : link.send({ type: world.paused ? "resume" : "pause" })),
  reset: () => beginAgain({ type: "reset" }),
  "new-seed": () => beginAgain({ type: "reset", seed: null }),
  record: () => recordings.toggle(),
  replay: () => askForDrive("copy"),
  "save-drive": () => askForDrive("save"),
  "save-world": () => link.send({ type: "save" }),
  "go-from": () => timeline.go(),
  "to-now": () => timeline.toNow(),
  branch: () => timeline.ask("branch"),
  "save-moment": () => timeline.ask("save"),
  seed: () => copy(String(world.seed), "Seed copied."),
  take: () => link.send({ type: "take_control" }),
  fullscreen: () => (document.fullscreenElement ? document.exitFullscreen() : theatre.requestFullscreen?.()),
  "show-hud": () => {
    $("hud").hidden = !$("hud").hidden;
    $("show-hud").setAttribute("aria-pressed", !$("hud").hidden);
    showFigures();
  },
  "show-drawer": () => { $("drawer").hidden = !$("drawer").hidden; },
  "close-drawer": () => { $("drawer").hidden = true; },
  "show-help": () => dialog("help"),
  "show-settings": () => dialog("settings"),
  "show-worlds": () => dialog("worlds"),
  lobby: () => location.assign(`lobby/?token=${encodeURIComponent(token)}`),
};
for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", () => action());

/** After a click the keys drive on: Space does not press the button again. */
addEventListener("click", ({ detail: clicks, target }) => {
  const button = clicks && !target.closest("dialog") && target.closest("button, a");
  if (button) timeline.looking ? $("past").focus() : button.blur();
}, true);

function dialog(id) {
  controls.release();
  if ($(id).open) $(id).close();
  else $(id).showModal();
}

/** Ask for the drive so far: to copy its link, save it, or offer it. */
function askForDrive(purpose) {
  world.driveFor = purpose;
  link.send({ type: "take" });
}

/** A world that keeps moments goes back to the lost drive; others drive it again. */
function beginAgain(message) {
  if (!timeline.keeps) askForDrive("undo");
  goOnElsewhere(message);
  if (timeline.keeps) offerBack(message.seed === null ? "Another world began." : "The world began again.");
}

/** Who sends the world elsewhere wants to see it: it does not stay paused. */
function goOnElsewhere(message) {
  link.send(message);
  link.send({ type: "resume" });
}

function offerBack(why) {
  offerUndo(why, "Back to the lost drive", () => {
    goOnElsewhere({ type: "undo" });
    toast("Back in the lost drive.");
  });
}

function offerUndo(why, label, action) { offer(why, label, action, keymap.caps("offer-take")[0]); }

function again({ seed, model, parts }) { goOnElsewhere({ type: "replay", seed, model, parts }); }

/** Keys that steer, command or would search belong to the page, not in its fields. */
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape" && typing(event.target)) return event.target.blur();
  if (event.key === "Escape") $("drawer").hidden = true;
  const action = keymap.action(event);
  if (event.target === $("past") && timeline.looking) return alongTimeline(event, action);
  if (elsewhere(event) && !$("help").open) return;
  const presses = ["Space", "Enter"].includes(placeOf(event)) && event.target.closest?.("button, a");
  if (presses) return;
  if (event.target === $("past") && action) $("past").blur(); // back to driving
  if (timeline.looking && event.key === "Enter") return timeline.go();
  if (timeline.looking && event.key === "Escape") return timeline.toNow();
  if (action || event.key.length === 1) event.preventDefault();
  if (event.repeat) return;
  if (event.key === "?") return actions["show-help"]();
  if ($("help").open) return;
  if (action === "write") return $("prompt").focus(), $("prompt").select();
  if (action === "past") return $("past").focus();
  if (action && !$(action)?.disabled && !$(action)?.hidden) (actions[action] ?? (() => $(action)?.click()))();
});

/** On the timeline, looking back: what would drive says why it does not; what pauses comes back. */
function alongTimeline(event, action) {
  if (event.repeat || event.key.startsWith("Arrow")) return;
  if (action === "pause") event.preventDefault(), actions.pause();
  else if (world.driving && KEYS.includes(action)) sayWhyStill(false);
}

/** Whether a key belongs to a field or a dialog; to the timeline at now belong those that move. */
function elsewhere({ target, key }) {
  if (target === $("past") && !timeline.looking) return key.startsWith("Arrow") || key === "Shift";
  return typing(target);
}

/** Whether a field or a dialog has the keys. */
function typing(target) {
  return Boolean(target?.closest?.("input, select, textarea")) || ["help", "ask", "settings", "worlds"].some((id) => $(id).open);
}

// --- settings and small things ---

function applySettings() {
  const { scaling, theme, controls: amount } = settings.chosen;
  screen.scaling = scaling;
  theatre.dataset.controls = amount;
  document.documentElement.dataset.theme = theme;
}
settings.addEventListener("change", applySettings);
applySettings();

function showFigures() { if (!$("hud").hidden) drawFigures(figures, link); }
setInterval(() => {
  showFigures();
  if (!world.frames) loading.draw();
  recordings.draw();
}, 500);

let idle = 0;
for (const kind of ["pointermove", "pointerdown", "focusin"]) addEventListener(kind, () => {
  clearTimeout(idle);
  theatre.classList.remove("idle");
  idle = setTimeout(() => theatre.classList.add("idle"), IDLE_MS);
});
