// Two ways to the server with one shape: a WebSocket, and long polls over plain HTTP.
// Both are told hello, and call on.message(string or ArrayBuffer) and, once, on.close(why): the
// line with which the server refuses somebody, else "".

export class SocketChannel {
  #socket;

  constructor(hello, on) {
    const address = new URL("live", document.baseURI);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = this.#socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.send(hello);
    socket.onmessage = ({ data }) => on.message(data);
    socket.onclose = () => on.close(""); // why is said in a message
  }

  get open() { return this.#socket.readyState === WebSocket.OPEN; }

  send(message) { if (this.open) this.#socket.send(JSON.stringify(message)); }

  close() { this.#socket.close(); }
}

export class PollChannel {
  #address = "";
  #outbox = [];
  #posting = false;
  #end = new AbortController();

  constructor(hello, on) { this.#poll(hello, on); }

  get open() { return this.#address !== "" && !this.#end.signal.aborted; }

  /** What comes while a post is under way goes with the next one. */
  send(message) {
    if (!this.open) return;
    this.#outbox.push(JSON.stringify(message));
    if (!this.#posting) this.#post();
  }

  close() { this.#end.abort(); }

  async #poll(hello, on) {
    let why = "";
    try {
      const joined = await this.#ask("poll", JSON.stringify(hello));
      this.#address = `poll/${await joined.text()}`;
      while (this.open) for (const record of records(await (await this.#ask(this.#address)).arrayBuffer())) on.message(record);
    } catch (error) {
      why = error.said ?? "";
    }
    this.close();
    on.close(why);
  }

  async #post() {
    this.#posting = true;
    try {
      while (this.#outbox.length && this.open) await this.#ask(this.#address, this.#outbox.splice(0).join("\n"));
    } catch {
      this.close();
    }
    this.#posting = false;
  }

  async #ask(address, body) {
    const answer = await fetch(address, { method: body ? "POST" : "GET", body, cache: "no-store", signal: this.#end.signal });
    if (!answer.ok) throw Object.assign(new Error(answer.status), { said: answer.status === 400 ? (await answer.text()).trim() : "" });
    return answer;
  }
}

/** A poll's body: records of kind (0 = text, 1 = bytes), length (4 bytes, network order), bytes. */
function* records(buffer) {
  const view = new DataView(buffer);
  for (let at = 0; at < buffer.byteLength;) {
    const size = view.getUint32(at + 1), data = buffer.slice(at + 5, at + 5 + size);
    yield view.getUint8(at) ? data : new TextDecoder().decode(data);
    at += 5 + size;
  }
}
