// What the page tells a person: aloud for screen readers, as a note that fades, as an offer with a button.

const TOAST_MS = 4000, OFFER_MS = 12000, MOST_TOASTS = 3;
const $ = (id) => document.getElementById(id);
let withdrawn = 0;

export function say(text) { $("announcer").textContent = text; }

export function toast(text, bad = false) {
  const item = Object.assign(document.createElement("p"), { textContent: text, className: bad ? "bad" : "" });
  $("toasts").append(item);
  while ($("toasts").children.length > MOST_TOASTS) $("toasts").firstChild.remove();
  say(text);
  setTimeout(() => item.remove(), bad ? 2 * TOAST_MS : TOAST_MS);
}

/** Offer something for a while: a line and a button that does it. The newest offer takes the place of another. */
export function offer(text, label, action) {
  clearTimeout(withdrawn);
  $("offer-text").textContent = text;
  $("offer-take").textContent = label;
  $("offer-take").onclick = () => { withdraw(); action(); };
  $("offer").hidden = false;
  say(`${text} ${label}?`);
  withdrawn = setTimeout(withdraw, OFFER_MS);
}

export function withdraw() {
  $("offer").hidden = true;
  $("offer-take").onclick = null; // its key takes nothing now
}

export function banner(text, calm = false) {
  $("banner").classList.toggle("calm", calm);
  if ($("banner").textContent !== text) $("banner").textContent = text;
  $("banner").hidden = !text;
}

/** Copy text; plain http pages have no clipboard of the modern kind. */
export async function copy(text, done) {
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

export function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}
