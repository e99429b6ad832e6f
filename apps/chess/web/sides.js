// The two strips beside the board: who plays, whether they are there, what they have captured, and their clocks.

import { avatar, piece } from "./pieces.js";
import { make, nameOf, other, part, setText } from "./dom.js";

/** Below this many milliseconds a clock shows tenths, and is urgent. */
const URGENT = 20_000;

const SAYS = {
  here: "here",
  away: "away",
  lost: "connection lost",
  gone: "gone",
  absent: "not here",
  unknown: "",
};

/** One player's strip. */
export class Side {
  #name = part("span", "player-name");
  #status = part("span", "player-status");
  #captured = part("span", "captured");
  #clock = part("span", "clock");
  #avatar = make("span");
  #user = null;

  constructor(element) {
    this.element = element;
    this.#clock.setAttribute("role", "timer");
    element.replaceChildren(
      this.#avatar,
      make("span", { class: "player" }, make("span", { class: "player-line" }, this.#name, this.#status), this.#captured),
      this.#clock,
    );
  }

  /** Shows the player of a colour. `status`: a key of `SAYS`. */
  show({ color, user, isMe, status, captured, ahead, isRunning }) {
    if (this.#user !== user.id) {
      this.#user = user.id;
      const picture = avatar(user.id);
      this.#avatar.replaceWith(picture);
      this.#avatar = picture;
      this.#name.replaceChildren(nameOf(user), ...(isMe ? [" ", make("span", { class: "tag", text: "you" })] : []));
    }
    this.element.dataset.color = color;
    this.element.dataset.running = String(isRunning);
    this.element.dataset.status = status;
    setText(this.#status, SAYS[status]);
    this.#captured.replaceChildren(
      ...captured.map((kind) => {
        const picture = piece(kind);
        picture.classList.add(other(color));
        return picture;
      }),
      ahead > 0 ? `+${ahead}` : "",
    );
  }

  showTime(milliseconds) {
    setText(this.#clock, clockText(milliseconds));
    this.#clock.dataset.urgent = String(milliseconds < URGENT);
  }
}

/** `5:03`, `1:02:03`, and tenths when time is short: `0:09.4`. Never more than there is. */
export function clockText(milliseconds) {
  const tenths = Math.floor(milliseconds / 100);
  const seconds = Math.floor(tenths / 10);
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (number) => String(number).padStart(2, "0");
  const short = milliseconds < URGENT ? `.${tenths % 10}` : "";
  return (hours > 0 ? `${hours}:${two(minutes)}` : minutes) + `:${two(rest)}${short}`;
}
