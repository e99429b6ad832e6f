// Asks what a pawn becomes.

import { ask, make } from "./dom.js";
import { piece } from "./pieces.js";

const CHOICES = { q: "Queen", r: "Rook", b: "Bishop", n: "Knight" };

/**
 * Resolves to `q`, `r`, `b` or `n`, or to null if none was chosen. Closed by `signal`, it resolves to null too. It is shown
 * in the middle of the board.
 */
export async function askPromotion(dialog, board, color, signal) {
  const buttons = Object.entries(CHOICES).map(([kind, name]) => {
    const picture = piece(kind);
    picture.classList.add(color);
    return make("button", { value: kind, class: "choice", "aria-label": name, "data-test": `promote-${kind}` }, picture);
  });
  dialog.querySelector("form").replaceChildren(...buttons);
  signal.addEventListener("abort", () => dialog.close(""), { once: true });
  const { left, right, top, bottom } = board.getBoundingClientRect();
  const inset = [top, innerWidth - right, innerHeight - bottom, left];
  dialog.style.inset = inset.map((edge) => `${Math.max(0, edge)}px`).join(" ");
  return (await ask(dialog)) || null;
}
