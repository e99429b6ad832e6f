// Small helpers for elements and words that several modules share.

export const $ = (selector) => document.querySelector(selector);

/** A new element. Properties are attributes, but for `text`; children follow. */
export function make(tag, { text, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  if (text !== undefined) element.textContent = text;
  element.append(...children);
  return element;
}

/** An element that both the styles and the tests know by one name. */
export function part(tag, name) {
  return make(tag, { class: name, "data-test": name });
}

/** Writing the same text again would make a screen reader say it again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let title = document.title;
let call = "";

/** Names the view in the title of the page. */
export function setTitle(text) {
  title = text;
  showTitle();
}

/** Says before the view's title what waits for an answer: it is seen from other tabs. An empty text is no call. */
export function callInTitle(text) {
  call = text;
  showTitle();
}

function showTitle() {
  document.title = call ? `${call} – ${title}` : title;
}

/** The name of somebody else, in whatever script. */
export function nameOf(user) {
  const name = make("bdi", { class: "name", text: user.name });
  return user.bot ? make("span", { class: "named" }, name, " ", make("span", { class: "tag", text: "bot" })) : name;
}

/** A time control as chess players write it: minutes, and seconds for each move. */
export function timeControl({ initial_ms, increment_ms }) {
  const minutes = initial_ms / 60_000;
  const initial = Number.isInteger(minutes) ? String(minutes) : minutes >= 1 ? minutes.toFixed(1) : `${initial_ms / 1000} s`;
  return `${initial} + ${increment_ms / 1000}`;
}

export const other = (color) => (color === "white" ? "black" : "white");

export const capital = (word) => word[0].toUpperCase() + word.slice(1);

/** The text for a reply that is an error, or that never came. */
export function problem(reply) {
  return reply?.message ?? "The server did not answer. Please try again.";
}

/**
 * Shows a dialog and resolves to the value of the button that closes it. Escape and a tap beside the dialog give it up: "".
 */
export function ask(dialog) {
  // A press that begins inside and is let go beside it is no tap, nor is one on the dialog's own rim.
  let beganBeside = false;
  dialog.onpointerdown = (event) => (beganBeside = isBeside(dialog, event));
  dialog.onclick = (event) => {
    if (beganBeside && isBeside(dialog, event)) dialog.close("");
  };
  dialog.returnValue = "";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
    dialog.showModal();
  });
}

/** The backdrop belongs to the dialog: a tap there has the dialog as its target. */
function isBeside(dialog, { target, clientX, clientY }) {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return target === dialog && (clientX < left || clientX > right || clientY < top || clientY > bottom);
}

/**
 * Brings a list's elements in line with items: elements stay the same as long as their item does, so that nothing
 * flickers and nothing is read out twice. `draw(item)` makes `{ element, show(item) }`.
 */
export class Rows {
  #list;
  #draw;
  #rows = new Map();

  constructor(list, draw) {
    this.#list = list;
    this.#draw = draw;
  }

  show(items) {
    const here = new Set(items.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (here.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    items.forEach((item, index) => {
      let row = this.#rows.get(item.id);
      if (!row) {
        row = this.#draw(item);
        this.#rows.set(item.id, row);
      }
      row.show?.(item);
      if (this.#list.children[index] !== row.element) {
        this.#list.insertBefore(row.element, this.#list.children[index] ?? null);
      }
    });
  }

  each(visit) {
    for (const row of this.#rows.values()) visit(row);
  }
}
