// One tab, as somebody uses it.

import { isDeepStrictEqual } from "node:util";

import { DEADLINE } from "../../lib/until.mjs";

/** A tab of somebody's browser. */
export class Tab {
  constructor(page, person) {
    this.page = page;
    this.person = person;
  }

  /** Another tab of the same browser, which may reach the site by another way. */
  another(url) {
    return this.person.open(url);
  }

  /** Types a name at the door and sends it. */
  async choose(name) {
    const input = this.page.locator("#name-form input[name=name]");
    await input.fill(name);
    await input.press("Enter");
  }

  /** The complaint of the door about the name. */
  async untilRefused() {
    await this.page.locator("#name-error").filter({ hasText: /\S/ }).waitFor();
    return this.page.locator("#name-error").innerText();
  }

  untilInLobby() {
    return this.page.locator("[data-test=person]").first().waitFor();
  }

  untilAtDoor() {
    return this.page.locator("#name-form").waitFor();
  }

  /** `online`, `lost` or `refused`. */
  untilConnection(state) {
    return this.page.locator(`[data-test=connection][data-state=${state}]`).waitFor({ state: "attached" });
  }

  /** From now on notes whether the connection is lost, however soon it is back, until `untilReconnected`. */
  watchConnection() {
    return this.page.evaluate(() => {
      const connection = document.querySelector("[data-test=connection]");
      window.wasLost = false;
      const look = () => (window.wasLost ||= connection.dataset.state === "lost");
      new MutationObserver(look).observe(connection, { attributeFilter: ["data-state"] });
    });
  }

  /** Resolves once the connection was lost since `watchConnection`, and is back. */
  async untilReconnected() {
    await this.page.waitForFunction(() => window.wasLost);
    await this.untilConnection("online");
  }

  /** Everyone in the list, as a reader sees them: `{ name: "status" }`, or `"status, 2 tabs"`. */
  async people() {
    const rows = await this.page.locator("[data-test=person]").evaluateAll((elements) =>
      elements.map((element) => {
        const text = (part) => element.querySelector(`[data-test=${part}]`)?.innerText.trim() ?? "";
        return [text("name"), [text("status"), text("tabs")].filter(Boolean).join(", ")];
      }),
    );
    // A page that is about to be left shows no text.
    const names = rows.map(([name]) => name).filter(Boolean);
    if (new Set(names).size !== names.length) throw new Error(`somebody is listed twice: ${JSON.stringify(rows)}`);
    return Object.fromEntries(rows);
  }

  /** Resolves once the list says just this of everyone. */
  async untilPeople(expected) {
    const deadline = Date.now() + DEADLINE;
    for (;;) {
      const people = await this.people();
      if (isDeepStrictEqual(people, { ...expected })) return;
      if (Date.now() > deadline) {
        throw new Error(`expected ${JSON.stringify(expected)}, seen ${JSON.stringify(people)}`);
      }
      await this.#nextPaint();
    }
  }

  /** Lists change by live messages; each is shown by a paint. */
  #nextPaint() {
    return this.page.evaluate(() => new Promise(requestAnimationFrame));
  }

  /** Hides or shows the tab, as the browser would tell the page when another tab is chosen. */
  async setVisibility(state) {
    await this.page.evaluate((visibility) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => visibility });
      Object.defineProperty(document, "hidden", { configurable: true, get: () => visibility === "hidden" });
      document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
    }, state);
  }

  reload() {
    return this.page.reload();
  }

  close() {
    return this.page.close({ runBeforeUnload: false });
  }

  // Games

  /** The user that this is to the site. */
  me() {
    return this.page.evaluate(async () => (await (await fetch("/me")).json()).user);
  }

  /** Sends an event to the channel of one's own and resolves to `{ ok }` or `{ error }`: for what the page has no form. */
  ask(event, payload) {
    return this.tell("user:", event, payload);
  }

  /** Sends an event to a channel over a connection of its own. */
  tell(topic, event, payload) {
    return this.page.evaluate(
      async ([topic, event, payload]) => {
        const { Live } = await import("/live.js");
        const { user } = await (await fetch("/me")).json();
        const live = new Live({ onConnection() {}, onRefused() {} });
        try {
          const name = topic.startsWith("user:") ? `user:${user.id}` : topic;
          const channel = await new Promise((resolve) => {
            const joined = live.join(name, topic.startsWith("game:") ? () => ({ status: "here" }) : undefined, {
              onJoin: () => resolve(joined),
            });
          });
          return await channel.push(event, payload);
        } finally {
          live.close();
        }
      },
      [topic, event, payload],
    );
  }

  /** The id of the game in the address. */
  get game() {
    return /\/game\/([\w-]+)$/.exec(new URL(this.page.url()).pathname)?.[1] ?? null;
  }

  async untilAtGame(id) {
    await this.page.waitForURL(id ? `**/game/${id}` : "**/game/*");
    await this.page.locator(".pieces [data-square=e1], .pieces [data-piece]").first().waitFor();
    await this.untilState(/./);
  }

  async openGame(id) {
    await this.page.goto(`${this.person.site.url}game/${id}`);
    await this.untilAtGame(id);
  }

  /** The middle of a square, and its size, once the board is as large as the window lets it be. */
  async square(name) {
    const seen = await this.page.waitForFunction((name) => {
      const board = document.querySelector("#game-board");
      const square = board?.querySelector(`rect[data-square=${name}]`);
      // The board is drawn anew some time after the window's size has changed.
      if (!square || square.ownerSVGElement.parentElement.clientWidth !== board.clientWidth) return null;
      const { x, y, width } = square.getBoundingClientRect();
      return { x: x + width / 2, y: y + width / 2, size: width };
    }, name);
    return seen.jsonValue();
  }

  async click(...squares) {
    for (const name of squares) {
      const { x, y } = await this.square(name);
      await this.page.mouse.click(x, y);
    }
  }

  async tap(...squares) {
    for (const name of squares) {
      const { x, y } = await this.square(name);
      await this.page.touchscreen.tap(x, y);
    }
  }

  /** Picks a piece up and brings it over another square, without dropping it. */
  async drag(from, to) {
    const [start, end] = [await this.square(from), await this.square(to)];
    await this.page.mouse.move(start.x, start.y);
    await this.page.mouse.down();
    await this.page.mouse.move((start.x + end.x) / 2, (start.y + end.y) / 2, { steps: 3 });
    await this.page.mouse.move(end.x, end.y, { steps: 3 });
  }

  async dragMove(from, to) {
    await this.drag(from, to);
    await this.page.mouse.up();
  }

  /** Makes a move by keys alone: from wherever the cursor is, by a2, to the squares. */
  async keys(...squares) {
    const board = this.page.locator("svg.cm-chessboard");
    await board.focus();
    const isTurned = (await this.bottom()) === "black";
    for (const name of squares) {
      // Into the corner, and from there.
      for (let i = 0; i < 7; i += 1) {
        await board.press("ArrowLeft");
        await board.press("ArrowDown");
      }
      const file = "abcdefgh".indexOf(name[0]);
      const rank = Number(name[1]) - 1;
      for (let i = 0; i < (isTurned ? 7 - file : file); i += 1) await board.press("ArrowRight");
      for (let i = 0; i < (isTurned ? 7 - rank : rank); i += 1) await board.press("ArrowUp");
      await board.press("Enter");
    }
  }

  async type(move) {
    await this.page.locator("#move-input").fill(move);
    await this.page.locator("#move-input").press("Enter");
  }

  /** Plays these moves in turn with somebody else, this tab first: typed, and each confirmed on both sides. */
  async play(opponent, ...moves) {
    const before = await this.sans();
    for (const [index, move] of moves.entries()) {
      const [mover, other] = index % 2 === 0 ? [this, opponent] : [opponent, this];
      await mover.type(move);
      await mover.untilPly(before.length + index + 1);
      await other.untilPly(before.length + index + 1);
    }
  }

  /** The moves in the list. */
  sans() {
    return this.page.locator("[data-test=san]").allInnerTexts();
  }

  untilPly(ply) {
    return this.page.locator(`[data-test=san][data-ply="${ply}"]`).waitFor({ state: "attached" });
  }

  /** The colour at the bottom. */
  bottom() {
    return this.page.locator("#side-bottom").getAttribute("data-color");
  }

  /** The pieces that are drawn: `{ e1: "wk", .. }`. */
  pieces() {
    return this.page.locator(".pieces g[data-square]").evaluateAll((elements) =>
      Object.fromEntries(elements.map((element) => [element.dataset.square, element.dataset.piece])),
    );
  }

  /** Resolves once the board shows these pieces on these squares; null is an empty square. */
  untilPieces(expected) {
    return this.#until("pieces", () => this.pieces(), (pieces) =>
      Object.entries(expected).every(([square, piece]) => (pieces[square] ?? null) === piece));
  }

  /** What is marked: `["last e2", "last e4"]`. */
  marks() {
    return this.page.locator("[data-mark]").evaluateAll((elements) => elements.map((element) => element.dataset.mark));
  }

  untilMarked(...expected) {
    return this.#until("marks", () => this.marks(), (marks) => expected.every((mark) => marks.includes(mark)));
  }

  untilNotMarked(kind) {
    return this.#until("marks", () => this.marks(), (marks) => !marks.some((mark) => mark.startsWith(kind)));
  }

  state() {
    return this.page.locator("#game-state").innerText();
  }

  untilState(pattern) {
    return this.page.locator("#game-state").filter({ hasText: pattern }).waitFor();
  }

  untilNote(pattern) {
    return this.page.locator(":is(#game-note, #game-error)").filter({ hasText: pattern }).waitFor();
  }

  /** The strip of a player, by colour. */
  side(color) {
    return this.page.locator(`.side[data-color=${color}]`);
  }

  untilStatus(color, status) {
    return this.page.locator(`.side[data-color=${color}][data-status=${status}]`).waitFor({ state: "attached" });
  }

  /** The time on a player's clock, in seconds. */
  async clock(color) {
    const text = await this.side(color).locator(".clock").innerText();
    return text.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  }

  action(value) {
    return this.page.locator(`#actions button[value=${value}]`);
  }

  /** From now on notes every status that the page shows of a player, until `noted` is asked. */
  watchStatus(color) {
    return this.page.evaluate((color) => {
      window.noted = new Set();
      const look = () => window.noted.add(document.querySelector(`.side[data-color=${color}]`)?.dataset.status);
      new MutationObserver(look).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["data-status"] });
      look();
    }, color);
  }

  noted() {
    return this.page.evaluate(() => [...window.noted]);
  }

  async #until(what, read, fits) {
    const deadline = Date.now() + DEADLINE;
    for (;;) {
      const now = await read();
      if (fits(now)) return;
      if (Date.now() > deadline) throw new Error(`${what} are ${JSON.stringify(now)}`);
      await this.#nextPaint();
    }
  }
}
