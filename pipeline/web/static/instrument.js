// Speed and heading on the picture, of worlds that know them; nothing is guessed.

import { $ } from "./dom.js";

const POINTS = ["N", "NE", "E", "SE", "S", "SW", "W", "NW"];

/** Of the newest picture: speed in m/s, heading in degrees clockwise from north. */
export function showMotion({ speed, heading }) {
  const rounded = Math.round(Math.abs(speed) * 3.6);
  const point = POINTS[Math.round(heading / 45) % 8];
  $("motion-needle").setAttribute("transform", `rotate(${heading.toFixed(1)} 12 12)`);
  $("motion-speed").textContent = `${rounded} km/h${rounded && speed < 0 ? " back" : ""}`;
  $("motion-point").textContent = point;
  $("motion").hidden = false;
}

/** Another world, which may not know. */
export function hideMotion() { $("motion").hidden = true; }
