// Gamepads of any make: what they hold together, seen from where their sticks rest.

const DEAD_ZONE = 0.3, HALF_WAY = 0.5, RESTING = 0.5;
const STANDARD = { 0: "straight", 7: "straight", 12: "straight", 1: "reverse", 6: "reverse", 13: "reverse", 2: "coast", 14: "left", 15: "right" };
const OTHER = { 0: "straight", 1: "reverse", 2: "coast" }; // likely to be under the thumb
const HAT = 9; // a cross as an axis: from -1 (up) clockwise to 1

export class Gamepads {
  #rest = new Map(); // pad index -> its axes when it was met first

  /** [what, name] of all that is held on pads (as from navigator.getGamepads). */
  *held(pads) {
    const here = pads.filter(Boolean);
    for (const index of this.#rest.keys()) if (!here.some((pad) => pad.index === index)) this.#rest.delete(index);
    for (const pad of here) for (const [what, name] of this.#of(pad)) yield [`${pad.index} ${what}`, name];
  }

  *#of(pad) {
    if (!this.#rest.has(pad.index)) this.#rest.set(pad.index, pad.axes.map((value) => (Math.abs(value) < RESTING ? value : 0)));
    const rest = this.#rest.get(pad.index);
    const [x = 0, y = 0] = pad.axes.slice(0, 2).map((value, i) => value - rest[i]);
    if (Math.abs(x) > DEAD_ZONE) yield ["x", x < 0 ? "left" : "right"];
    if (Math.abs(y) > HALF_WAY) yield ["y", y < 0 ? "straight" : "reverse"];
    const standard = pad.mapping === "standard";
    for (const [index, name] of Object.entries(standard ? STANDARD : OTHER)) if (pad.buttons[index]?.pressed) yield [index, name];
    const hat = pad.axes[HAT];
    if (standard || hat === undefined || Math.abs(hat) > 1.1) return; // at rest it lies outside of -1 to 1
    const turn = Math.round(((hat + 1) * 7) / 2); // 0 = up, 1 = up and right, ...
    if (turn >= 1 && turn <= 3) yield ["hat x", "right"];
    if (turn >= 5 && turn <= 7) yield ["hat x", "left"];
    if (turn <= 1 || turn === 7) yield ["hat y", "straight"];
    if (turn >= 3 && turn <= 5) yield ["hat y", "reverse"];
  }
}
