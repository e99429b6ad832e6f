// The marks on the board: below the pieces the last move, a king in check, the piece that is held; above them where
// it can go.

import { EXTENSION_POINT, Extension, Svg } from "/vendor/board.mjs";

export class Marks extends Extension {
  #below;
  #above;
  #marks = { last: [], check: null, pending: [], from: null, targets: [] };

  constructor(chessboard) {
    super(chessboard);
    this.#below = Svg.addElement(chessboard.view.markersLayer, "g", {});
    this.#above = Svg.addElement(chessboard.view.markersTopLayer, "g", { class: "targets" });
    this.registerExtensionPoint(EXTENSION_POINT.afterRedrawBoard, () => this.#draw());
  }

  /** Changes some of the marks. */
  show(marks) {
    Object.assign(this.#marks, marks);
    this.#draw();
  }

  #draw() {
    const { last, check, pending, from, targets } = this.#marks;
    this.#below.replaceChildren();
    this.#above.replaceChildren();
    for (const square of last) this.#square(square, "last");
    for (const square of pending) this.#square(square, "pending");
    if (from) this.#square(from, "held");
    if (check) this.#square(check, "check");
    for (const { square, takes } of targets) this.#circle(square, takes);
  }

  #square(square, kind) {
    const { x, y } = this.chessboard.view.squareToPoint(square);
    const { squareWidth: width, squareHeight: height } = this.chessboard.view;
    Svg.addElement(this.#below, "rect", { x, y, width, height, class: `mark ${kind}`, "data-mark": `${kind} ${square}` });
  }

  #circle(square, takes) {
    const { x, y } = this.chessboard.view.squareToPoint(square);
    const size = this.chessboard.view.squareWidth;
    Svg.addElement(this.#above, "circle", {
      cx: x + size / 2,
      cy: y + size / 2,
      r: size * (takes ? 0.44 : 0.15),
      class: takes ? "mark ring" : "mark dot",
      "data-mark": `target ${square}`,
    });
  }
}
