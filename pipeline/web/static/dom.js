// Elements of the page: those that are there, by their id, and new ones.

export const $ = (id) => document.getElementById(id);

/** A new element with properties and children: elements, or text that stays text. */
export function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
