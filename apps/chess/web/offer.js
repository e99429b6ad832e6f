// Asks for the terms of a game: for a seek that anyone can take, or an invite.

import { $, ask, nameOf } from "./dom.js";

const REMEMBERED = "terms";

/** Resolves to `{ color, initial_ms, increment_ms }`, or to null if it was given up. `user`: whom to invite, if somebody. */
export async function askTerms(user) {
  const dialog = $("#offer");
  const form = dialog.querySelector("form");
  const verb = user?.bot ? "Play " : "Invite ";
  $("#offer-title").replaceChildren(...(user ? [verb, nameOf(user)] : ["Find an opponent"]));
  $("#offer-submit").textContent = user ? (user.bot ? "Play" : "Invite") : "Open the seek";
  recall(form);
  // A button that doesn't submit: Enter is for the other one.
  $("#offer-cancel").onclick = () => dialog.close("");
  if ((await ask(dialog)) !== "ok") return null;
  const [minutes, seconds] = form.elements.time.value.split("+").map(Number);
  remember(form);
  return { color: form.elements.color.value, initial_ms: minutes * 60_000, increment_ms: seconds * 1000 };
}

function remember(form) {
  try {
    localStorage.setItem(REMEMBERED, JSON.stringify([form.elements.time.value, form.elements.color.value]));
  } catch {
    // A browser that keeps nothing asks again each time.
  }
}

function recall(form) {
  try {
    const [time, color] = JSON.parse(localStorage.getItem(REMEMBERED)) ?? [];
    if ([...form.elements.time].some(({ value }) => value === time)) form.elements.time.value = time;
    if (["white", "black", "random"].includes(color)) form.elements.color.value = color;
  } catch {
    // Something else is kept there, or nothing can be.
  }
}
