// The lobby: a card for every world, and the way to new ones. Words from outside only ever become text content.

import { $, made } from "../dom.js";
import { token } from "../key.js";
import { clock, copy, say, toast } from "../say.js";
import { PastDrives } from "./drives.js";

const LIST_MS = 1000, PICTURE_MS = 350;
const own = `../?token=${encodeURIComponent(token)}`; // the launcher's own world
const cards = new Map(); // id -> {element, world, shown, ending}: shown is the frame that its canvas shows
let presets = "", ticket = null;

try { document.documentElement.dataset.theme = JSON.parse(localStorage.getItem("settings")).theme; } catch { /* the dark one */ }

/** Ask the server. Throws an Error with its line, and with status where it answered. */
async function ask(address, options = {}) {
  const answer = await fetch(address, { ...options, cache: "no-store", headers: { authorization: `Bearer ${token}`, ...options.headers } });
  if (!answer.ok) throw Object.assign(new Error((await answer.text()).trim()), { status: answer.status });
  return answer;
}

// --- the worlds ---

async function list() {
  try {
    const lobby = await (await ask("worlds")).json();
    show(lobby);
    banner("");
  } catch ({ status }) {
    if ([401, 403].includes(status)) return banner("This lobby has a new key: open the address that the program printed last.");
    banner("Connection lost, asking again…");
  }
  setTimeout(list, document.hidden ? 4 * LIST_MS : LIST_MS);
}

function show(lobby) {
  const ids = new Set(lobby.worlds.map(({ id }) => id));
  for (const [id, { element, world }] of cards) if (!ids.has(id)) {
    if (element.contains(document.activeElement)) $("new").focus();
    element.remove();
    cards.delete(id);
    say(`${called(world)} has ended.`);
  }
  for (const world of lobby.worlds) draw(cardOf(world), world);
  const room = lobby.most === 1 ? "one world only" : lobby.room ? `room for ${lobby.room} more` : "no room for more";
  const waiting = lobby.waiting ? `, ${lobby.waiting} waiting` : "";
  write($("count"), `${lobby.worlds.length} of ${lobby.most} here, ${room}${waiting}`);
  $("back").hidden = !lobby.worlds.some((world) => world.own);
  $("none").hidden = lobby.worlds.length > 0;
  $("new").hidden = $("new-title").hidden = lobby.most === 1;
  showPresets(lobby);
}

/** The card of a world, a new one where there is none. */
function cardOf(world) {
  if (cards.has(world.id)) return cards.get(world.id);
  const element = $("card").content.firstElementChild.cloneNode(true);
  const card = { element, world, shown: "", ending: false };
  for (const button of element.querySelectorAll("[data-link]")) button.addEventListener("click", () => {
    const kind = button.dataset.link;
    copy(new URL(card.world.links[kind], document.baseURI).href, kind === "driver" ? "Driver’s link copied." : "Watcher’s link copied.");
  });
  element.querySelector(".end").addEventListener("click", () => end(card));
  cards.set(world.id, card);
  $("cards").append(element);
  return card;
}

function draw(card, world) {
  card.world = world;
  const find = (selector) => card.element.querySelector(selector);
  const who = world.driven ? "driven" : "nobody drives";
  const state = card.ending ? "ending" : world.state === "playing" ? `${world.fps.toFixed(1)} FPS` : world.state;
  card.element.className = `card ${world.state}`;
  write(find("h3 span"), world.name);
  write(find("small"), world.own ? "" : world.id); // names may be the same
  find("small").title = "its id, as in its links";
  write(find(".prompt"), world.prompt);
  write(find(".state"), `${state} · ${who}, ${world.watching} watching · seed ${world.seed} · ${clock(world.seconds)}`);
  find("canvas").setAttribute("aria-label", `Picture of ${world.name}: ${world.prompt}`);
  find(".join").href = world.own ? own : world.links.driver;
  find(".join").setAttribute("aria-label", `Join ${called(world)}`);
  find(".end").setAttribute("aria-label", `End ${called(world)}`);
}

/** A world in words, told from others of its name. */
function called({ name, own, id }) { return own ? name : `${name}, ${id}`; }

function write(element, text) { if (element.textContent !== text) element.textContent = text; }

async function pictures() {
  const shown = document.hidden ? [] : [...cards].filter(([, card]) => !card.ending);
  await Promise.allSettled(shown.map(([id, card]) => picture(id, card)));
  setTimeout(pictures, PICTURE_MS);
}

async function picture(id, card) {
  const answer = await ask(`pictures/${id}?after=${encodeURIComponent(card.shown)}`);
  if (answer.status === 204) return;
  card.shown = answer.headers.get("etag");
  const bitmap = await createImageBitmap(await answer.blob()), canvas = card.element.querySelector("canvas");
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
}

function end(card) {
  const { world } = card;
  $("ask-text").textContent = `“${called(world)}” ends for everybody in it; its recordings stay on the computer.`;
  $("ask").returnValue = "";
  $("ask").showModal();
  $("ask").onclose = async () => {
    if ($("ask").returnValue !== "yes") return;
    card.ending = true; // nothing is asked of it any more
    try { await ask(`worlds/${world.id}`, { method: "DELETE" }); } catch ({ message }) {
      card.ending = false;
      toast(message, true);
    }
  };
}

// --- a new world ---

function showPresets({ presets: prompts, pictures: addresses }) {
  const key = JSON.stringify([prompts, addresses]);
  if (key === presets) return;
  presets = key;
  $("presets").hidden = !prompts.length;
  $("preset-list").replaceChildren(...prompts.map((prompt, i) => {
    const choice = made("input", { type: "radio", name: "preset", className: "unseen", value: prompt });
    choice.addEventListener("change", () => { $("prompt").value = prompt; });
    const picture = addresses[i] ? [made("img", { src: addresses[i], alt: "", loading: "lazy", width: 144, height: 96 })] : [];
    return made("label", {}, choice, ...picture, prompt);
  }));
}

$("prompt").addEventListener("input", () => {
  for (const choice of $("preset-list").querySelectorAll("input")) choice.checked = choice.value === $("prompt").value;
});
$("new").addEventListener("submit", (event) => {
  event.preventDefault();
  const fields = {};
  if ($("prompt").value.trim()) fields.prompt = $("prompt").value;
  if ($("seed").value) fields.seed = Number($("seed").value);
  if ($("called").value.trim()) fields.name = $("called").value.trim();
  post(JSON.stringify(fields));
});
function post(body) { begin("worlds", { method: "POST", body, headers: { "content-type": "application/json" } }); }
const drives = new PastDrives(ask, (body) => { if (!$("begin").disabled) post(body); });
$("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = "";
  if (!file || $("begin").disabled) return;
  if (!file.name.endsWith(".world")) return toast(`No world in ${file.name}: expected a file of “Save this world”, NAME.world.`, true);
  const name = $("called").value.trim();
  const headers = { "content-type": "application/octet-stream" };
  toast(`Sending ${file.name}…`);
  begin(`worlds?name=${encodeURIComponent(name)}`, { method: "POST", body: file, headers });
});
$("leave").addEventListener("click", () => {
  if (ticket) ask(`queue/${ticket}`, { method: "DELETE" }).catch(() => {});
  wait(null);
});

/** Ask for a world, and keep asking while there is no room. */
async function begin(address, options) {
  lock(true);
  try {
    const answer = await (await ask(address, options)).json();
    if (answer.world) return begun(answer.world);
    wait(answer);
    setTimeout(() => { if (ticket) begin(`queue/${ticket}`); }, LIST_MS);
  } catch ({ message }) {
    wait(null);
    drives.look();
    toast(message, true);
  }
}

function begun(world) {
  wait(null);
  $("called").value = "";
  const card = cardOf(world);
  draw(card, world);
  card.element.querySelector(".join").focus({ preventScroll: true });
  card.element.scrollIntoView({ block: "center" }); // the whole of it, not only the button
  drives.look();
  toast(`${world.name} begins. Join it, or hand its links on.`);
}

/** The place in the queue; null = in none. */
function wait(queued) {
  ticket = queued?.ticket ?? null;
  lock(ticket !== null);
  $("queue").hidden = ticket === null;
  if (!queued) return;
  const estimate = queued.estimate === null ? "" : `, about ${clock(queued.estimate)} minutes`;
  write($("queue-text"), `No room just now. Place ${queued.place} in the queue${estimate}.`);
}

/** Whether another world may not be asked for just now. */
function lock(locked) { $("begin").disabled = $("file").disabled = locked; }

function banner(text) {
  write($("banner"), text);
  $("banner").hidden = !text;
}

$("back").href = own;
list();
pictures();
