// The picture: newest frame only, decoded off the page's thread, painted in step with the display.

import { Decoder } from "./decoder.js";

const GLOW_MS = 500;
const SIDEWAYS = "(orientation: landscape) and (max-height: 480px)"; // a phone on its side, as in style.css

export class Screen extends EventTarget {
  #canvas; #context; #glow; #stage;
  #waiting = null; // newest decoded frame that is not painted yet
  #serial = 0;
  #painted = 0;
  #glowed = 0;
  #decoder = new Decoder();
  #scaling = "auto"; // or crisp, smooth
  #live = null; // what came last, while a picture of the past is shown

  constructor(stage, canvas, glow) {
    super();
    this.#stage = stage;
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#glow = matchMedia("(prefers-reduced-motion: reduce)").matches ? null : glow.getContext("2d");
    new ResizeObserver(() => this.#fit()).observe(stage);
  }

  set scaling(way) {
    this.#scaling = way;
    this.#fit();
  }

  shape({ width, height }) {
    if (this.#canvas.width === width && this.#canvas.height === height) return;
    Object.assign(this.#canvas, { width, height });
    this.#fit();
  }

  /** Show a picture of the past in place of what comes; null = what came last. */
  show(picture) {
    const from = picture ?? this.#live, { width, height } = this.#canvas;
    if (picture) this.#live ??= copied(this.#canvas);
    else this.#live = null;
    if (from) this.#context.drawImage(from, 0, 0, width, height);
  }

  follow() { this.#live = null; }

  /** Take a frame. Emits painted (detail = header and times) once it is on the display. */
  async offer({ header, data, received }) {
    const serial = ++this.#serial;
    let bitmap;
    try {
      bitmap = await this.#decoder.decode({ header, data });
    } catch {
      if (header.video) this.dispatchEvent(new Event("undecoded"));
      return this.#emit({ header, received, painted: performance.now() }); // it is not coming
    }
    if (serial < this.#painted) return bitmap.close();
    this.#waiting?.bitmap.close();
    const first = this.#waiting === null;
    this.#waiting = { bitmap, header, received, serial };
    if (first) requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    const { bitmap, header, received, serial } = this.#waiting;
    this.#waiting = null;
    this.#painted = serial;
    this.shape(header);
    (this.#live?.getContext("2d") ?? this.#context).drawImage(bitmap, 0, 0);
    const now = performance.now();
    if (this.#glow && now - this.#glowed > GLOW_MS) {
      this.#glowed = now;
      this.#glow.drawImage(bitmap, 0, 0, 12, 8);
    }
    bitmap.close();
    afterPaint(() => this.#emit({ header, received, painted: performance.now() }));
  }

  /** The largest size that fits; small pictures grow by whole device pixels. */
  #fit() {
    const { width, height } = this.#canvas, ratio = devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.#stage;
    const sideways = matchMedia(SIDEWAYS).matches, narrow = innerWidth <= 760; // a narrow page scrolls: its stage has no height yet
    const tallest = sideways ? innerHeight : narrow ? 0.8 * innerHeight : clientHeight - 8;
    let scale = Math.min(clientWidth / width, tallest / height) * ratio;
    const crisp = this.#scaling === "crisp" || (this.#scaling === "auto" && scale >= 3 && !sideways);
    if (crisp && scale >= 1) scale = Math.floor(scale);
    const wide = `${(width * scale) / ratio}px`, high = `${(height * scale) / ratio}px`;
    Object.assign(this.#canvas.style, { width: wide, height: high });
    this.#stage.style.setProperty("--picture-width", wide); // for what lies on the picture
    this.#stage.style.setProperty("--picture-height", high);
    this.#canvas.style.imageRendering = crisp ? "pixelated" : "auto";
  }

  #emit(detail) { this.dispatchEvent(new CustomEvent("painted", { detail })); }
}

function copied(canvas) {
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  copy.getContext("2d").drawImage(canvas, 0, 0);
  return copy;
}

/** Run once the display has what was drawn in this animation frame. */
function afterPaint(then) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => { port1.close(); then(); };
  port2.postMessage(null);
}
