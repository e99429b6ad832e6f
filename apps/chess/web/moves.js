// The list of moves. A click on one shows the position after it.

import { make } from "./dom.js";

export class Moves {
  #list;
  #onChoose;
  #drawn = [];

  constructor(list, { onChoose }) {
    this.#list = list;
    this.#onChoose = onChoose;
    list.replaceChildren();
  }

  /** Shows these moves, of which the one of this ply is looked at. */
  show(moves, ply) {
    const same = this.#drawn.findIndex((san, index) => moves[index]?.san !== san);
    if (same >= 0 || moves.length < this.#drawn.length) this.#clear();
    for (let index = this.#drawn.length; index < moves.length; index += 1) this.#add(moves[index].san, index + 1);
    for (const button of this.#list.querySelectorAll("button")) {
      const isShown = Number(button.dataset.ply) === ply;
      if (isShown && button.getAttribute("aria-current") !== "true") {
        // Not `scrollIntoView`, which scrolls the page as well.
        this.#list.scrollTop = button.offsetTop - this.#list.offsetTop - this.#list.clientHeight / 2;
      }
      if (isShown) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  #clear() {
    this.#drawn = [];
    this.#list.replaceChildren();
  }

  #add(san, ply) {
    this.#drawn.push(san);
    if (ply % 2 === 1) this.#list.append(make("li"));
    const button = make("button", { type: "button", text: san, "data-test": "san", "data-ply": ply });
    button.addEventListener("click", () => this.#onChoose(ply));
    this.#list.lastElementChild.append(button);
  }
}
