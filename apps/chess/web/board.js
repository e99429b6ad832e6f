// The board: an adapter around cm-chessboard, which draws it and moves pieces by pointer. The page says what is
// legal and shown; the board never changes its position by itself but for the piece that was just dropped.

import { Chessboard, INPUT_EVENT_TYPE, Svg } from "/vendor/board.mjs";

import { Keys } from "./keys.js";
import { Marks } from "./marks.js";

const ANIMATION = 180;

styleWithoutAttributes();

/** `onMove(from, to)`: a legal move was made by pointer or keys. A pawn that is to be promoted stands where it stood. */
export class Board {
  #chessboard;
  #marks;
  #keys;
  #onMove;
  /** Squares that can be reached, by the square of the piece; null while it isn't this player's turn. */
  #targets = null;
  #promotions = new Set();
  #color = null;
  #shown = null;
  #wanted = null;
  #animates = false;
  #isDrawing = false;

  constructor(element, { onMove }) {
    this.#onMove = onMove;
    this.#chessboard = new Chessboard(element, {
      assetsUrl: "",
      style: { cssClass: "ours", animationDuration: ANIMATION, pieces: { file: "/#", tileSize: 40 } },
      extensions: [{ class: Marks }],
    });
    this.#marks = this.#chessboard.getExtension(Marks);
    this.#keys = new Keys(this.#chessboard, {
      color: () => this.#color,
      pick: (square) => this.#pick(square),
      drop: (from, to) => this.#isLegal(from, to) && (this.#onMove(from, to), true),
      release: () => this.#marks.show({ from: null, targets: [] }),
    });
  }

  /** Shows a position; by moving pieces if it follows the one before, and if people want things to move. */
  show(fen, animates) {
    this.#wanted = fen.split(" ")[0];
    this.#animates = animates && !document.hidden && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (!this.#isDrawing) this.#draw();
  }

  /** Positions that come while one is being drawn wait, and of these the last alone is drawn. */
  async #draw() {
    this.#isDrawing = true;
    while (this.#wanted !== this.#shown) {
      this.#shown = this.#wanted;
      await this.#chessboard.setPosition(this.#shown, this.#animates);
    }
    this.#isDrawing = false;
  }

  /** Who plays with the board, and with which moves (`"e2e4"`, `"e7e8q"`); null: nobody, at the moment. */
  allow(color, legal) {
    const targets = legal && new Map();
    for (const move of legal ?? []) {
      const [from, to] = [move.slice(0, 2), move.slice(2, 4)];
      targets.set(from, (targets.get(from) ?? new Set()).add(to));
    }
    const is = (moves) => (moves ? [...moves].map(([from, to]) => from + [...to]).join() : "");
    if (is(targets) === is(this.#targets) && color === this.#color) return;
    this.#targets = targets;
    this.#promotions = new Set((legal ?? []).filter((move) => move.length > 4).map((move) => move.slice(0, 4)));
    this.#color = color;
    this.release();
    if (this.#chessboard.isMoveInputEnabled()) this.#chessboard.disableMoveInput();
    if (targets) this.#chessboard.enableMoveInput((event) => this.#input(event), color[0]);
  }

  /** Lets go of a piece that is held. */
  release() {
    this.#chessboard.cancelMoveInput();
    this.#keys.release();
    this.#marks.show({ from: null, targets: [] });
  }

  /** Marks the last move, a king in check, and a move that isn't confirmed. */
  mark({ last, check, pending }) {
    this.#marks.show({ last: last ?? [], check: check ?? null, pending: pending ?? [] });
  }

  get orientation() {
    return this.#chessboard.getOrientation() === "w" ? "white" : "black";
  }

  turnTo(color) {
    if (color === this.orientation) return;
    // Not `setOrientation`, which is done some frames later.
    this.#chessboard.state.orientation = color[0];
    this.#chessboard.view.redrawBoard();
    this.#chessboard.view.redrawPieces();
  }

  focus() {
    this.#keys.focus();
  }

  /** Draws nothing more, and watches the size of its element no more. */
  close() {
    this.#wanted = this.#shown;
    this.#chessboard.destroy();
    this.#chessboard.context.replaceChildren();
  }

  #pick(square) {
    const targets = this.#targets?.get(square);
    if (!targets) return false;
    const takes = (target) => Boolean(this.#chessboard.getPiece(target));
    this.#marks.show({ from: square, targets: [...targets].map((to) => ({ square: to, takes: takes(to) })) });
    return true;
  }

  #isLegal(from, to) {
    return Boolean(this.#targets?.get(from)?.has(to));
  }

  #input(event) {
    const { type, squareFrom, squareTo } = event;
    switch (type) {
      case INPUT_EVENT_TYPE.moveInputStarted:
        this.#keys.release();
        return this.#pick(squareFrom);
      case INPUT_EVENT_TYPE.validateMoveInput: {
        if (!squareTo || !this.#isLegal(squareFrom, squareTo)) return false;
        const stays = !this.#promotions.has(squareFrom + squareTo);
        // While the board moved the piece, it would take the next one in hand and then forget it.
        event.animate = false;
        // Once it has drawn the piece where it was dropped. The rest of the move (a rook, a pawn taken in passing) follows.
        queueMicrotask(() => {
          if (stays) this.#shown = null;
          this.#onMove(squareFrom, squareTo);
        });
        return stays;
      }
      case INPUT_EVENT_TYPE.moveInputCanceled:
      case INPUT_EVENT_TYPE.moveInputFinished:
        this.#marks.show({ from: null, targets: [] });
    }
  }
}

/**
 * The site's content security policy forbids `style` attributes, which cm-chessboard sets; without them a dragged piece
 * lies below the board. The same through the CSSOM is allowed.
 */
function styleWithoutAttributes() {
  const { createSvg, addElement } = Svg;
  Svg.createSvg = (container) => {
    const svg = createSvg(container);
    const setAttribute = svg.setAttribute.bind(svg);
    svg.setAttribute = (name, value) => {
      if (name === "style") svg.style.cssText = value;
      else setAttribute(name, value);
    };
    return svg;
  };
  Svg.addElement = (parent, name, { style, ...attributes } = {}) => {
    const element = addElement(parent, name, attributes);
    if (style) element.style.cssText = style;
    return element;
  };
}
