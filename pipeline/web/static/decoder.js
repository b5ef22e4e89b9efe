// Pictures out of bytes, off the page's thread: JPEG, and H.264 where the browser can.

const CODEC = { codec: "avc1.640028", optimizeForLatency: true }; // up to 1080p; key frames say the rest

/** Whether this browser decodes H.264 frames: secure pages of newer browsers do. */
export const decodesVideo = await supported();

export class Decoder {
  #video = null;
  #pending = new Map(); // timestamp -> the promise of its picture
  #count = 0;

  /** An ImageBitmap or a VideoFrame. Rejects what cannot be decoded. */
  async decode({ header, data }) {
    if (!header.video) return createImageBitmap(new Blob([data], { type: "image/jpeg" }));
    if (!this.#video || this.#video.state === "closed") {
      if (!header.key) throw new Error("no key frame yet");
      this.#open();
    }
    const timestamp = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#pending.set(timestamp, { resolve, reject });
      this.#video.decode(new EncodedVideoChunk({ type: header.key ? "key" : "delta", timestamp, data }));
    });
  }

  #open() {
    this.#video = new VideoDecoder({
      output: (frame) => {
        this.#pending.get(frame.timestamp)?.resolve(frame);
        this.#pending.delete(frame.timestamp);
      },
      error: (error) => {
        for (const { reject } of this.#pending.values()) reject(error);
        this.#pending.clear();
      },
    });
    this.#video.configure(CODEC);
  }
}

async function supported() {
  try {
    return (await VideoDecoder.isConfigSupported(CODEC)).supported;
  } catch {
    return false;
  }
}
