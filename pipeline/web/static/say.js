// What the page tells: aloud for screen readers, as a note that fades, as an offer.

import { $, made } from "./dom.js";

const TOAST_MS = 4000, OFFER_MS = 12000, MOST_TOASTS = 3;
const fading = new WeakMap(); // note -> the timer that takes it away
let withdrawn = 0;

export function say(text) { $("announcer").textContent = text; }

/** A note; returns its element, to take it away when it no longer holds. */
export function toast(text, bad = false) {
  const there = [...$("toasts").children].find(({ textContent }) => textContent === text); // a line stands there once
  const item = there ?? made("p", { textContent: text, className: bad ? "bad" : "" });
  if (!there) $("toasts").append(item);
  while ($("toasts").children.length > MOST_TOASTS) $("toasts").firstChild.remove();
  say(text);
  clearTimeout(fading.get(item));
  fading.set(item, setTimeout(() => item.remove(), bad ? 2 * TOAST_MS : TOAST_MS));
  return item;
}

/** Offer something for a while, in place of an older offer: a line, and a button with a key. */
export function offer(text, label, action, key) {
  clearTimeout(withdrawn);
  $("offer-text").textContent = text;
  $("offer-take").replaceChildren(label, ...(key ? [made("kbd", { className: "by-key", textContent: key })] : []));
  $("offer-take").onclick = () => { withdraw(); action(); };
  $("offer").hidden = false;
  say(`${text} ${label}?`);
  withdrawn = setTimeout(withdraw, OFFER_MS);
}

function withdraw() {
  $("offer").hidden = true;
  $("offer-take").onclick = null; // its key takes nothing now
}

export function banner(text, calm = false) {
  $("banner").classList.toggle("calm", calm);
  if ($("banner").textContent !== text) $("banner").textContent = text;
  $("banner").hidden = !text;
}

export async function copy(text, done) {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else {
      const field = made("textarea", { value: text, className: "unseen" });
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

export function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}
