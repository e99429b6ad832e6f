// A player's actions besides moving: draw, resign, claim, rematch.

import { $, nameOf, other, setText } from "./dom.js";

/** How long the button that resigns asks whether that is meant, in milliseconds. */
const RESIGN_ASKS = 4_000;

export class Actions {
  #send;
  #resignAsks = null;
  #buttons = Object.fromEntries([...$("#actions").querySelectorAll("button")].map((button) => [button.value, button]));

  /** `send(event, payload)`: what to do. */
  constructor({ send }) {
    this.#send = send;
    this.#askBeforeResigning(false);
    for (const [value, button] of Object.entries(this.#buttons)) {
      // Not a listener: a view that is gone must not be asked as well.
      button.onclick = () => this.#press(value);
    }
  }

  #press(value) {
    if (value === "resign" && this.#resignAsks === null) return this.#askBeforeResigning(true);
    this.#askBeforeResigning(false);
    if (value.startsWith("claim-")) this.#send("claim", { as: value.slice("claim-".length) });
    else this.#send(value, {});
  }

  #askBeforeResigning(asks) {
    clearTimeout(this.#resignAsks);
    this.#resignAsks = asks ? setTimeout(() => this.#askBeforeResigning(false), RESIGN_ASKS) : null;
    setText(this.#buttons.resign, asks ? "Really resign?" : "Resign");
  }

  /**
   * Shows what can be done now. `claimIn`: in how many milliseconds a victory can be claimed; null if it can't be.
   */
  show({ you, opponent, isOnline, result, drawOffer, rematch, isOpponentThere, claimIn }) {
    const plays = you !== null && !result;
    const isOver = you !== null && Boolean(result);
    const theyOfferDraw = plays && drawOffer === other(you);
    const theyOfferRematch = isOver && !rematch.game && rematch.offer === other(you);
    const weOfferRematch = isOver && !rematch.game && rematch.offer === you;

    this.#button("draw", plays, { text: theyOfferDraw ? "Accept the draw" : "Offer a draw", disabled: drawOffer === you });
    this.#button("decline_draw", theyOfferDraw);
    this.#button("resign", plays);
    this.#button("claim-win", plays && claimIn === 0);
    this.#button("claim-draw", plays && claimIn === 0);
    // Shown while it is offered, too: if it gave its place to the next one, a double click would offer and withdraw.
    this.#button("rematch", isOver && !rematch.game, {
      text: theyOfferRematch ? "Accept the rematch" : "Rematch",
      disabled: weOfferRematch || !isOpponentThere,
    });
    this.#button("decline_rematch", theyOfferRematch || weOfferRematch, {
      text: weOfferRematch ? "Withdraw the rematch" : "Decline",
    });
    for (const button of Object.values(this.#buttons)) button.disabled ||= !isOnline;

    const next = $("#next-game");
    next.hidden = !result || !rematch.game;
    if (rematch.game) next.href = `/game/${rematch.game}`;

    const says = [];
    if (theyOfferDraw) says.push(nameOf(opponent), " offers a draw.");
    else if (plays && drawOffer === you) says.push("You have offered a draw.");
    if (plays && claimIn !== null) {
      says.push(" ", nameOf(opponent), claimIn === 0 ? " is gone: you can claim the game." : " has no connection.");
    }
    if (theyOfferRematch) says.push(nameOf(opponent), " wants a rematch.");
    if (weOfferRematch) says.push("You have offered a rematch.");
    if (isOver && !rematch.game && isOnline && !isOpponentThere) says.push(nameOf(opponent), " has left.");
    const text = says.map((part) => part.textContent ?? part).join("");
    if ($("#action-note").textContent !== text) $("#action-note").replaceChildren(...says);
    // Beside what is said by itself: else each second would be.
    setText($("#claim-wait"), plays && claimIn > 0 ? `In ${Math.ceil(claimIn / 1000)} s you can claim the game.` : "");
  }

  #button(value, isShown, { text, disabled = false } = {}) {
    const button = this.#buttons[value];
    button.hidden = !isShown;
    button.disabled = disabled;
    if (text) setText(button, text);
  }
}
