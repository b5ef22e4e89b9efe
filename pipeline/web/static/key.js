// The key of this world: it comes in the printed address and stays with the page, at its own port.

const NAME = `key of ${location.pathname}`;
let key = new URLSearchParams(location.search).get("token");

if (key) {
  try { localStorage.setItem(NAME, key); } catch { /* no storage: it lives as long as this page */ }
  history.replaceState(null, "", "./" + location.hash); // neither address bar nor history keeps it
} else {
  try { key = localStorage.getItem(NAME); } catch { /* no storage */ }
}

export const token = key ?? "";
