// The wire format of the live socket (docs/protocol.md).

const PROTOCOL = 1;
export const KEYS = ["straight", "left", "right", "reverse", "coast"];
const HEADER_BYTES = 36;

/** The keys that a label stands for: D, B, N, each followed by its turns. */
export function keysOf(control) {
  return new Set([["straight", "reverse", "coast"][Math.floor(control / 3)], [null, "left", "right"][control % 3]]);
}

/** A binary message -> {header, data: its picture}, or null if it is not a frame of this protocol. */
export function readFrame(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength <= HEADER_BYTES || view.getUint16(0) !== 0x4d58 || view.getUint8(2) !== PROTOCOL) return null;
  const header = {
    video: view.getUint8(3) === 2, // H.264; else JPEG
    first: (view.getUint8(4) & 1) === 1,
    key: (view.getUint8(4) & 2) === 2,
    control: view.getUint8(5),
    quality: view.getUint8(6),
    width: view.getUint16(8),
    height: view.getUint16(10),
    epoch: view.getUint32(12),
    frame: view.getUint32(16),
    cursor: view.getUint32(20),
    promptVersion: view.getUint32(24),
    clock: view.getFloat64(28) * 1000,
    bytes: buffer.byteLength,
  };
  return { header, data: new Uint8Array(buffer, HEADER_BYTES) };
}

/** A drive as the fragment of a replay link. */
export function replayFragment(take) {
  const fields = new URLSearchParams({ seed: take.seed, model: take.model });
  for (const part of take.parts) {
    fields.append("prompt", part.prompt);
    fields.append("controls", part.controls);
  }
  return "#" + fields;
}

/** The fragment of a replay link as a replay message, or null if there is none. */
export function readReplay(fragment) {
  const fields = new URLSearchParams(fragment.slice(1));
  const prompts = fields.getAll("prompt"), controls = fields.getAll("controls");
  if (!fields.has("seed") || !controls.length || prompts.length !== controls.length) return null;
  const parts = prompts.map((prompt, i) => ({ prompt, controls: controls[i] }));
  const drive = { type: "replay", seed: Number(fields.get("seed")), model: fields.get("model"), parts };
  return isDrive(drive) ? drive : null;
}

/** Whether this has the form of a replay message; the server looks closer. */
export function isDrive(thing) {
  const part = ({ prompt, controls }) => typeof prompt === "string" && /^([BDN][LR]?([*]\d+)?,?)+$/.test(controls);
  return thing?.type === "replay" && Number.isInteger(thing.seed) && Array.isArray(thing.parts) && thing.parts.length > 0 && thing.parts.every(part);
}

/** How many latents "D*16,DL*8" stands for. */
export function countLatents(controls) {
  return controls.split(",").reduce((sum, item) => sum + Number(item.split("*")[1] ?? 1), 0);
}
