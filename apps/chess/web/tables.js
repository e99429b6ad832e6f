// The lists of the lobby beside its people: invites, open seeks, running games.

import { $, Rows, callInTitle, capital, make, nameOf, part, setText, timeControl } from "./dom.js";
import { drawBoard } from "./pieces.js";
import { Game, material } from "./position.js";
import { clockText } from "./sides.js";

const COLORS = { white: "white", black: "black", random: "either colour" };
const FOR_OTHER = { white: "black", black: "white", random: "either colour" };

function button(text, test, onClick, kind = "quiet") {
  const element = make("button", { type: "button", class: kind, text, "data-test": test });
  element.addEventListener("click", onClick);
  return element;
}

/** Invites to and from me. `act(event, id)`: what to do with one. */
export class Invites {
  #rows;
  #myId;
  /** The ids of those that were said. */
  #said = new Set();

  constructor({ myId, act }) {
    this.#myId = myId;
    this.#rows = new Rows($("#invites"), (invite) => drawInvite(invite, myId, act));
  }

  show(invites) {
    this.#rows.show(invites);
    $("#invites-box").hidden = invites.length === 0;
    this.#call(invites.filter(({ to }) => to.id === this.#myId));
  }

  /** Says who invites me where the list isn't seen: in the title, and by ear. */
  #call(invites) {
    const news = invites.filter(({ id }) => !this.#said.has(id));
    this.#said = new Set(invites.map(({ id }) => id));
    const [first] = invites;
    callInTitle(invites.length > 1 ? `${invites.length} people invite you` : first ? `${first.from.name} invites you` : "");
    const says = news.map(({ from, ...invite }) => `${from.name} invites you: ${termsOf(invite, false)}.`);
    if (says.length > 0 || !first) setText($("#invited"), says.join(" "));
  }
}

function termsOf({ color, ...control }, isMine) {
  return `${timeControl(control)}, you play ${(isMine ? COLORS : FOR_OTHER)[color]}`;
}

function drawInvite({ id, from, to, ...invite }, myId, act) {
  const isMine = from.id === myId;
  const text = isMine
    ? [make("span", { text: "You have invited " }), nameOf(to)]
    : [nameOf(from), make("span", { text: " invites you" })];
  const buttons = isMine
    ? [button("Withdraw", "withdraw", () => act("withdraw", id))]
    : [button("Accept", "accept", () => act("accept", id), ""), button("Decline", "decline", () => act("decline", id))];
  const element = make(
    "li",
    { class: isMine ? "entry" : "entry incoming", "data-test": "invite" },
    make("span", { class: "entry-text" }, make("span", {}, ...text), make("small", { text: termsOf(invite, isMine) })),
    make("span", { class: "entry-buttons" }, ...buttons),
  );
  return { element };
}

/** Open seeks. `take(id)` and `unseek()`: what to do with one. */
export class Seeks {
  #rows;
  #myId;

  constructor({ myId, take, unseek }) {
    this.#myId = myId;
    this.#rows = new Rows($("#seeks"), ({ id, user, ...seek }) => {
      const isMine = user.id === myId;
      const act = isMine ? button("Close", "unseek", unseek) : button("Play", "take", () => take(id), "");
      const name = isMine ? make("span", { text: "Your own seek" }) : nameOf(user);
      const text = make("span", { class: "entry-text" }, name, make("small", { text: termsOf(seek, isMine) }));
      return { element: make("li", { class: "entry", "data-test": "seek" }, text, make("span", { class: "entry-buttons" }, act)) };
    });
  }

  show({ seeks, total }) {
    // One's own first: it is what one can close.
    this.#rows.show([...seeks].sort((a, b) => (b.user.id === this.#myId) - (a.user.id === this.#myId)));
    $("#no-seeks").hidden = total > 0;
  }
}

/** The running games, with their clocks; the first of them, which most people watch, with its board. */
export class Games {
  #rows = new Rows($("#games"), drawGame);
  #link = $("#live-board");
  #position = null;

  #timer = setInterval(() => this.#rows.each((row) => row.tick()), 1_000);

  /** Lists no game any more. */
  close() {
    clearInterval(this.#timer);
    this.show({ games: [], total: 0 });
  }

  show({ games, total }) {
    this.#rows.show(games);
    this.#showBoard(games[0]);
    $("#no-games").hidden = total > 0;
    setText($("#games-total"), total > games.length ? `${total} games, of which the most watched are shown` : "");
  }

  #showBoard(game) {
    this.#link.hidden = !game;
    if (!game) return;
    this.#link.href = `/game/${game.id}`;
    this.#link.setAttribute("aria-label", `Watch ${game.white.name} against ${game.black.name}`);
    const position = game.fen.split(" ")[0];
    if (position !== this.#position) drawBoard(this.#link.querySelector(".board"), position);
    this.#position = position;
  }
}

function drawGame({ id, white, black, ...control }) {
  const clocks = { white: part("span", "clock"), black: part("span", "clock") };
  const details = make("small", { "data-test": "game-details" });
  const link = make(
    "a",
    { href: `/game/${id}`, class: "entry-text" },
    make("span", { class: "game-line" }, make("span", { class: "disc white" }), nameOf(white), clocks.white),
    make("span", { class: "game-line" }, make("span", { class: "disc black" }), nameOf(black), clocks.black),
    details,
  );
  const element = make("li", { class: "entry", "data-test": "running" }, link);
  let game = null;
  const tick = () => {
    for (const color of ["white", "black"]) setText(clocks[color], clockText(Math.ceil(game.left(color) / 1000) * 1000).replace(/\.\d$/, ""));
  };
  return {
    element,
    tick,
    show(running) {
      game = new Game(running);
      const { ahead } = material(running.fen);
      const leads = ahead === 0 ? "even" : `${capital(ahead > 0 ? "white" : "black")} +${Math.abs(ahead)}`;
      const watchers = running.spectators === 0 ? "" : `, ${running.spectators} watching`;
      setText(details, `${timeControl(control)}, move ${Math.floor(running.ply / 2) + 1}, ${leads}${watchers}`);
      tick();
    },
  };
}
