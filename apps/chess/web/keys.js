// The board by keyboard: arrows go from square to square, Enter picks a piece up and puts it down, Escape lets it go.

import { EXTENSION_POINT, Extension, Svg } from "/vendor/board.mjs";

import { capital, make } from "./dom.js";

const NAMES = { k: "king", q: "queen", r: "rook", b: "bishop", n: "knight", p: "pawn" };
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

/**
 * `color()`: whose pieces may be picked up. `pick(square)`: whether the piece there can move. `drop(from, to)`: whether
 * the move was made. `release()`: the piece that was held is let go.
 */
export class Keys extends Extension {
  #actions;
  #svg;
  #cursor;
  #said = make("div", { class: "visually-hidden", "aria-live": "polite" });
  #file = 4;
  #rank = 1;
  #held = null;

  constructor(chessboard, actions) {
    super(chessboard);
    this.#actions = actions;
    this.#svg = chessboard.view.svg;
    this.#cursor = Svg.addElement(chessboard.view.interactiveTopLayer, "rect", { class: "cursor" });
    chessboard.context.append(this.#said);
    this.#svg.setAttribute("tabindex", "0");
    this.#svg.setAttribute("role", "application");
    this.#svg.setAttribute("aria-label", "Chessboard: arrows to walk, Enter to pick up and put down");
    this.#svg.addEventListener("keydown", (event) => this.#press(event));
    this.#svg.addEventListener("focus", () => this.#saySquare());
    this.registerExtensionPoint(EXTENSION_POINT.afterRedrawBoard, () => this.#draw());
    this.#draw();
  }

  release() {
    this.#held = null;
  }

  focus() {
    this.#svg.focus();
  }

  get #square() {
    return "abcdefgh"[this.#file] + (this.#rank + 1);
  }

  #press(event) {
    const step = STEPS[event.key];
    if (step) {
      const sign = this.chessboard.getOrientation() === "w" ? 1 : -1;
      this.#file = Math.min(7, Math.max(0, this.#file + sign * step[0]));
      this.#rank = Math.min(7, Math.max(0, this.#rank + sign * step[1]));
      this.#draw();
      this.#saySquare();
    } else if (event.key === "Enter" || event.key === " ") {
      this.#choose();
    } else if (event.key === "Escape" && this.#held) {
      this.#say(`${this.#pieceOn(this.#held)} put back`);
      this.release();
      this.#actions.release();
    } else {
      return;
    }
    event.preventDefault();
  }

  #choose() {
    const square = this.#square;
    const from = this.#held;
    this.#held = null;
    // Moves are said elsewhere, whoever makes them.
    if (from && from !== square && this.#actions.drop(from, square)) return;
    this.#actions.release();
    const isOwn = this.chessboard.getPiece(square)?.[0] === this.#actions.color()?.[0];
    if (from === square) return this.#say(`${this.#pieceOn(square)} put back`);
    if (isOwn && this.#actions.pick(square)) {
      this.#held = square;
      return this.#say(`${this.#pieceOn(square)} picked up`);
    }
    if (from) return this.#say(`${this.#pieceOn(from)} to ${square} is not a legal move`);
    this.#say(isOwn ? `${this.#pieceOn(square)} can't move now` : `No piece of yours on ${square}`);
  }

  #saySquare() {
    const piece = this.chessboard.getPiece(this.#square);
    const what = piece ? `${piece[0] === "w" ? "white" : "black"} ${NAMES[piece[1]]}` : "empty";
    this.#say(`${this.#square} ${what}`);
  }

  #pieceOn(square) {
    return `${capital(NAMES[this.chessboard.getPiece(square)[1]])} on ${square}`;
  }

  #say(text) {
    // Anew, for what is said twice is heard twice.
    this.#said.replaceChildren(text);
  }

  #draw() {
    const { x, y } = this.chessboard.view.squareToPoint(this.#square);
    const { squareWidth: width, squareHeight: height } = this.chessboard.view;
    for (const [name, value] of Object.entries({ x, y, width, height })) this.#cursor.setAttribute(name, value);
  }
}
