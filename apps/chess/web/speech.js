// Announcements of a game for screen readers: each move in words, the time at 30 and 10 s, and at once what can't wait.

import { $, capital, make, other, setText } from "./dom.js";

const PIECES = { K: "king", Q: "queen", R: "rook", B: "bishop", N: "knight" };
const SAN = /^([KQRBN]?)([a-h]?[1-8]?)(x?)([a-h][1-8])(?:=([QRBN]))?([+#]?)$/;
const ENDS = { "+": ", check", "#": ", checkmate" };

/** The seconds at which a clock speaks. */
const WARNINGS = [30, 10];

/** The most lines that the log keeps. */
const LINES = 20;

/** A move in words: "knight to f6, check". */
export function moveInWords(san) {
  const castling = /^O-O(-O)?([+#]?)$/.exec(san);
  if (castling) return `castles ${castling[1] ? "queenside" : "kingside"}${ENDS[castling[2]] ?? ""}`;
  const [, piece, from, takes, to, promoted, end] = SAN.exec(san) ?? [];
  if (!to) return san;
  const who = (PIECES[piece] ?? "pawn") + (from ? ` from ${from}` : "");
  return `${who} ${takes ? "takes on" : "to"} ${to}${promoted ? `, becomes a ${PIECES[promoted]}` : ""}${ENDS[end] ?? ""}`;
}

export class Speech {
  #log = $("#spoken");
  #urgent = $("#urgent");
  /** The moves that need not be said any more; null before the game is known. */
  #said = null;
  #isOver = null;
  #isGone = false;
  /** The lowest warning that was said, by colour. */
  #warned = { white: Infinity, black: Infinity };

  constructor() {
    this.#log.replaceChildren();
    setText(this.#urgent, "");
  }

  /** Says what is new. `opponent`: `{ name, isGone }`; null for a spectator. */
  follow({ moves, result }, opponent) {
    for (const [index, { san }] of this.#said === null ? [] : [...moves.entries()].slice(this.#said)) {
      this.#say(`${index % 2 === 0 ? "White" : "Black"}: ${moveInWords(san)}.`);
    }
    this.#said = moves.length;
    if (result && this.#isOver === false) setText(this.#urgent, `The game is over. ${result.message}`);
    this.#isOver = Boolean(result);
    if (opponent?.isGone && !this.#isGone && !result) setText(this.#urgent, `${opponent.name} is gone.`);
    else if (this.#isGone && !opponent?.isGone && !result) setText(this.#urgent, "");
    this.#isGone = Boolean(opponent?.isGone);
  }

  /** Takes the time on a running clock. `you`: the colour that one plays, or null. Returns whether it has spoken. */
  tick(color, milliseconds, you) {
    // Rounded up: a clock of just 30 s has no more than that from its first moment on.
    const due = WARNINGS.filter((seconds) => milliseconds <= seconds * 1000).at(-1) ?? Infinity;
    const isNew = due < this.#warned[color];
    // An increment may lift it above: it is said again then.
    this.#warned[color] = due;
    if (!isNew || milliseconds <= 0) return false;
    const whose = you === color ? "You have" : you === other(color) ? "Your opponent has" : `${capital(color)} has`;
    this.#say(`${whose} ${due} seconds.`);
    return true;
  }

  #say(text) {
    this.#log.append(make("p", { text }));
    while (this.#log.children.length > LINES) this.#log.firstChild.remove();
  }
}
