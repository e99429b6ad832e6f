// One's own page: games that are over, those one has played with, and the password.

import { $, capital, make, nameOf, problem, setText, timeControl } from "./dom.js";

export class Account {
  #me;
  #ended = new AbortController();
  #next = null;

  /** `me`: the user, with `hasPassword`. */
  constructor(me) {
    this.#me = me;
    const signal = this.#ended.signal;
    $("#past-games").replaceChildren();
    $("#no-past").hidden = true;
    setText($("#past-note"), "");
    setText($("#password-note"), "");
    // Below the games, which push it down as they come.
    $("#password-form").hidden = true;
    $("#password-form").reset();
    $("#password-form").elements.username.value = me.name;
    this.#showPassword(me.hasPassword);
    $("#more-past").hidden = true;
    $("#more-past").addEventListener("click", () => this.#load(), { signal });
    $("#password-form").addEventListener("submit", (event) => this.#savePassword(event), { signal });
    this.#load();
  }

  close() {
    this.#ended.abort();
  }

  async #load() {
    const more = $("#more-past");
    more.disabled = true;
    const after = this.#next ? `?after=${encodeURIComponent(this.#next)}` : "";
    const { ok, error } = await this.#fetch(`/past${after}`);
    more.disabled = false;
    if (this.#ended.signal.aborted) return;
    $("#password-form").hidden = false;
    setText($("#past-note"), ok ? "" : problem(error));
    if (!ok) return void (more.hidden = false);
    $("#past-games").append(...ok.games.map(drawGame));
    $("#no-past").hidden = $("#past-games").children.length > 0;
    this.#next = ok.next;
    more.hidden = ok.next === null;
  }

  #showPassword(hasPassword) {
    this.#me.hasPassword = hasPassword;
    $("#current-box").hidden = !hasPassword;
    const says = hasPassword
      ? "With your name and password you can sign in from any browser."
      : "You have no password: nobody but this browser knows you. With one you can come back from elsewhere.";
    setText($("#password-says"), says);
  }

  async #savePassword(event) {
    event.preventDefault();
    const form = $("#password-form");
    const { password, current } = form.elements;
    const body = { password: password.value, ...(this.#me.hasPassword && { current: current.value }) };
    const button = form.querySelector("button");
    button.disabled = true;
    const { ok, error } = await this.#fetch("/password", { method: "PUT", body });
    button.disabled = false;
    if (this.#ended.signal.aborted) return;
    setText($("#password-note"), ok ? "Your password is saved. All other browsers are signed out." : problem(error));
    // It was set elsewhere meanwhile.
    if (error?.reason === "wrong_password") this.#showPassword(true);
    if (!ok) return;
    form.reset();
    form.elements.username.value = this.#me.name;
    this.#showPassword(true);
  }

  /** Resolves to `{ ok }` or `{ error: problem }`; the problem is missing where no answer came. */
  async #fetch(path, { method = "GET", body } = {}) {
    try {
      const headers = body && { "content-type": "application/json" };
      const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
      const answer = response.status === 204 ? {} : await response.json();
      return response.ok ? { ok: answer } : { error: answer };
    } catch {
      return {};
    }
  }
}

const WORDS = { won: "Won against", lost: "Lost to", drawn: "Drew with" };

function drawGame({ id, color, opponent, is_here, seen_at, moves, result, ended_at, ...control }) {
  const outcome = result.winner === null ? "drawn" : result.winner === color ? "won" : "lost";
  const count = moves === 1 ? "1 move" : `${moves} moves`;
  const element = make(
    "li",
    { class: "entry", "data-test": "past", "data-outcome": outcome },
    make(
      "a",
      { href: `/game/${id}`, class: "entry-text" },
      make("span", { class: "game-line" }, make("span", { class: `disc ${color}` }), make("span", {}, make("strong", { text: WORDS[outcome] }), " ", nameOf(opponent))),
      make("small", { text: `${result.message} ${timeControl(control)}, ${count}, ${day(ended_at)}` }),
    ),
    make(
      "span",
      { class: "entry-buttons" },
      make("small", { "data-test": "seen", text: opponent.bot ? "" : capital(seen(is_here, seen_at)) }),
      make("a", { href: `/game/${id}/pgn`, download: true, class: "button quiet", text: "PGN", "aria-label": `PGN of the game with ${opponent.name}` }),
    ),
  );
  return element;
}

const day = (seconds) => new Date(seconds * 1000).toLocaleDateString([], { dateStyle: "medium" });

/** When somebody was last seen. */
function seen(isHere, seenAt) {
  if (isHere) return "here now";
  if (seenAt === null) return "not seen lately";
  const minutes = Math.floor((Date.now() / 1000 - seenAt) / 60);
  if (minutes < 1) return "seen just now";
  if (minutes < 60) return `seen ${minutes} min ago`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `seen ${hours} h ago` : `seen on ${day(seenAt)}`;
}
