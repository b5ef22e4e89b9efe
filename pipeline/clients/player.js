// The player of a notebook (notebook.py): shows the frames of each latent at the frame rate, and says which keys
// are held. It drives only while it has the focus.

const KEYS = {
  KeyW: "ahead", ArrowUp: "ahead", KeyA: "left", ArrowLeft: "left", KeyD: "right", ArrowRight: "right",
  KeyS: "reverse", ArrowDown: "reverse", ShiftLeft: "coast", ShiftRight: "coast",
};
const HINT = "Click, then W A S D or the arrows drive; Esc stops.";

function render({ model, el }) {
  const root = document.createElement("div");
  const canvas = document.createElement("canvas");
  const line = document.createElement("div");
  root.tabIndex = 0;
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the keys to us
  root.setAttribute("role", "application");
  root.setAttribute("aria-label", `A world. ${HINT}`);
  root.style.cssText = "display:inline-block;cursor:pointer";
  [canvas.width, canvas.height] = [model.get("width"), model.get("height")];
  canvas.style.cssText = `width:${Math.max(576, canvas.width)}px;max-width:100%;background:#000;display:block`;
  line.style.cssText = "font:13px system-ui,sans-serif;padding:4px 0";
  line.setAttribute("aria-live", "polite");
  line.textContent = HINT;
  root.append(canvas, line);
  el.append(root);

  const draw = (picture) => { canvas.getContext("2d").drawImage(picture, 0, 0); picture.close(); };
  const decode = (data) => createImageBitmap(new Blob([data], { type: "image/jpeg" }));
  if (model.get("poster")?.byteLength) decode(model.get("poster")).then(draw);

  const held = new Map(); // a key's place -> what it does
  const frames = []; // pictures that wait for their turn
  let focused = false;
  const tell = () => model.send({ kind: "keys", driving: focused, held: [...new Set(held.values())] });

  root.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.code === "Escape") return root.blur();
    if (!(event.code in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (!event.repeat) { held.set(event.code, KEYS[event.code]); tell(); }
  });
  root.addEventListener("keyup", (event) => {
    event.stopPropagation();
    if (held.delete(event.code)) tell();
  });
  root.addEventListener("focus", () => { focused = true; line.textContent = "driving"; tell(); });
  root.addEventListener("blur", () => { focused = false; held.clear(); line.textContent = HINT; tell(); });

  model.on("msg:custom", async (message, buffers) => {
    if (message.kind === "error") { line.textContent = message.text; return; }
    frames.push(...await Promise.all(buffers.map(decode)));
    if (focused) line.textContent = message.label;
    root.dataset.latent = message.latent;
  });

  const timer = setInterval(() => {
    const picture = frames.shift();
    if (!picture) return;
    draw(picture);
    if (frames.length % 4 === 0) model.send({ kind: "shown" }); // one latent less that waits
  }, 1000 / model.get("fps"));
  tell();
  return () => { clearInterval(timer); focused = false; held.clear(); tell(); };
}

export default { render };
