// The view of one game: plays it or watches it. All that is shown comes from the server; only a move that was just
// made is shown before it is confirmed, and marked as such.

import { Actions } from "./actions.js";
import { Board } from "./board.js";
import { $, capital, make, nameOf, other, problem, setText, setTitle, timeControl } from "./dom.js";
import { Moves } from "./moves.js";
import { Game, afterMove, kingOf, material } from "./position.js";
import { askPromotion } from "./promotion.js";
import { Side } from "./sides.js";
import { play } from "./sound.js";
import { Speech } from "./speech.js";

const START = "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1";

/** How often the clocks are drawn, in milliseconds. */
const TICK = 100;

/** After so long an unconfirmed move is said to be one, in milliseconds. */
const UNCONFIRMED = 1_000;

/** How long to wait before the server is asked again about a clock that has run out here, in milliseconds. */
const ASK_AGAIN = 1_000;

export class GameView {
  #me;
  #channel = null;
  #board;
  #moves = new Moves($("#moves"), { onChoose: (ply) => this.#lookAt(ply) });
  #sides = { top: new Side($("#side-top")), bottom: new Side($("#side-bottom")) };
  #actions;
  #speech = new Speech();
  #timer = null;
  #ended = new AbortController();

  #game = null;
  #you = null;
  #isOnline = false;
  /** The presences in the game, by id; null while they aren't known. */
  #presences = null;
  #absent = { white: null, black: null };
  #absentSince = 0;
  /** A move that isn't confirmed; its `uci` is missing if only the server can tell it. */
  #pending = null;
  /** The move after which the position is looked at; null: the last. */
  #looked = null;
  #isFlipped = false;
  #asked = 0;
  #promoting = null;

  constructor(me) {
    this.#me = me;
    this.#board = new Board($("#game-board"), { onMove: (from, to) => this.#boardMove(from, to) });
    this.#actions = new Actions({ send: (event, payload) => this.#send(event, payload) });
    const signal = this.#ended.signal;
    $("#flip").addEventListener("click", () => this.#flip(), { signal });
    $("#move-form").addEventListener("submit", (event) => this.#typedMove(event), { signal });
    $("#game-steps").addEventListener("click", ({ target }) => this.#step(target.closest("button")?.value), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#sync(), { signal });
    this.#note("");
    setText($("#game-title"), "");
    setText($("#game-state"), "");
    delete $("#game-state").dataset.over;
    $("#crowd").replaceChildren();
    $("#game-pgn").hidden = true;
  }

  /** Joins the game. `onMissing(problem)`: there is none. `onShown()`: it is shown. */
  open(live, id, { onMissing, onShown }) {
    this.#channel = live.join(`game:${id}`, () => ({ status: document.hidden ? "away" : "here" }), {
      onJoin: ({ you, game }) => this.#joined(you, game, onShown),
      onError: (error) => error?.reason === "not_found" && onMissing(error),
      onPresence: (presences) => {
        this.#presences = new Map(presences.map(({ id, metas }) => [id, metas]));
        this.#draw();
      },
      events: {
        change: (change) => this.#change(change),
        absent: (absent) => {
          this.#absent = absent;
          this.#absentSince = performance.now();
          this.#draw();
        },
        crowd: (crowd) => this.#showCrowd(crowd),
      },
    });
    this.#channel.onPageHide = () => this.#you && this.#channel.push("bye");
    this.#timer = setInterval(() => this.#tick(), TICK);
  }

  close() {
    clearInterval(this.#timer);
    this.#promoting?.abort();
    this.#channel?.leave();
    this.#ended.abort();
    this.#board.close();
  }

  /** Whether this is a game of ours that is over: then the next one may take its place. */
  get isOver() {
    return Boolean(this.#game?.result);
  }

  /** Whether what is shown is live. Without a connection nothing is known of anybody. */
  setOnline(isOnline) {
    this.#isOnline = isOnline;
    if (!isOnline) this.#presences = null;
    this.#draw();
  }

  // Messages from the server

  #joined(you, game, onShown) {
    // The answer may come after the view was closed.
    if (this.#ended.signal.aborted) return;
    const isFirst = this.#game === null;
    this.#you = you;
    this.#isOnline = true;
    this.#take(game);
    if (!isFirst) return;
    this.#board.turnTo(this.#you ?? "white");
    this.#draw();
    onShown();
  }

  #change(change) {
    if (!this.#game) return;
    if (!this.#game.apply(change)) return void this.#sync();
    if (change.move) play(/[+#]/.test(change.move.san) ? "check" : change.move.san.includes("x") ? "capture" : "move");
    this.#settle();
    this.#draw();
  }

  async #sync() {
    if (!this.#channel?.isJoined()) return;
    const { ok } = await this.#channel.push("sync");
    // A change may have overtaken the answer.
    if (ok?.game?.version >= (this.#game?.version ?? 0)) this.#take(ok.game);
  }

  #take(game) {
    this.#game = new Game(game);
    if (this.#settle() && this.#pending.ply === this.#game.ply) this.#resend();
    this.#draw();
  }

  // Moves of ours

  #canMove() {
    return this.#hindrance() === "";
  }

  /** Why one can't move, as a hint; "" if one can. */
  #hindrance() {
    if (!this.#game || this.#you === null || this.#game.result) return "You can't move now.";
    if (this.#pending) return `Your move ${this.#pending.move} isn't confirmed yet.`;
    if (!this.#isOnline) return "You can't move without a connection.";
    if (this.#game.turn !== this.#you) return "It isn't your turn.";
    return this.#looked === null ? "" : "This is an earlier position. Go to the last one to move.";
  }

  async #boardMove(from, to) {
    const moves = this.#game.legal.filter((move) => move.startsWith(from + to));
    if (!this.#canMove() || moves.length === 0) return this.#draw();
    const uci = moves.length === 1 ? moves[0] : await this.#promoted(from + to);
    if (uci && this.#canMove()) this.#play(uci, uci);
    else this.#draw();
  }

  /** Asks what a pawn becomes, as long as the position stays. */
  async #promoted(move) {
    this.#promoting?.abort();
    this.#promoting = new AbortController();
    const kind = await askPromotion($("#promotion"), $("#game-board"), this.#you, this.#promoting.signal);
    this.#board.focus();
    return kind && move + kind;
  }

  async #typedMove(event) {
    event.preventDefault();
    const input = $("#move-input");
    const text = input.value.trim();
    if (text === "") return;
    if (!this.#canMove()) return this.#note(this.#hindrance());
    const fits = this.#game.legal.filter((move) => move.startsWith(text.toLowerCase()));
    const isPromotion = text.length === 4 && fits.length > 1;
    const uci = isPromotion ? await this.#promoted(text.toLowerCase()) : fits.find((move) => move === text.toLowerCase());
    if (isPromotion && !uci) return;
    input.value = "";
    this.#play(uci ?? text, uci);
  }

  #play(move, uci) {
    const pending = { ply: this.#game.ply, move, uci, resent: false, isLate: false };
    this.#pending = pending;
    setTimeout(() => {
      pending.isLate = true;
      this.#draw();
    }, UNCONFIRMED);
    this.#note("");
    this.#draw();
    this.#sendMove(pending);
  }

  async #sendMove(pending) {
    const { ok, error } = await this.#channel.push("move", { ply: pending.ply, move: pending.move });
    if (this.#pending !== pending) return;
    if (error) {
      this.#pending = null;
      this.#note(problem(error), true);
      if (error.game) this.#take(error.game);
      else this.#draw();
    } else if (!ok || this.#game.version < ok.version) {
      // No answer, or the change that belongs to it is still to come: if it doesn't, the server knows.
      if (ok) setTimeout(() => this.#pending === pending && this.#sync(), ASK_AGAIN);
      else this.#sync();
    }
  }

  /** After a connection was lost nobody knows whether the move arrived; sent twice, it is played once. */
  #resend() {
    const pending = this.#pending;
    if (pending.resent) {
      this.#pending = null;
      return this.#note(`Your move ${pending.move} could not be sent.`, true);
    }
    pending.resent = true;
    this.#sendMove(pending);
  }

  /** Forgets the unconfirmed move once it is decided. Returns whether there is one still. */
  #settle() {
    const { ply, uci, move } = this.#pending ?? {};
    if (ply === undefined) return false;
    const played = this.#game.moves[ply];
    if (!played && !this.#game.result && this.#game.ply === ply) return true;
    this.#pending = null;
    // What is typed may leave out or add what the rules don't need: `0-0`, `E4`, `Nf3!`.
    const plain = (san) => san.replace(/[+#=x!?]/g, "").replaceAll("0", "O").toLowerCase();
    const isOurs = played && (uci ? played.uci === uci : played.uci === move || plain(played.san) === plain(move));
    if (!isOurs) this.#note(`Your move ${move} was not played: the position has changed.`, true);
    return false;
  }

  async #send(event, payload) {
    const { ok, error } = await this.#channel.push(event, payload);
    this.#note(ok ? "" : problem(error), true);
    if (error?.game) this.#take(error.game);
  }

  // Looking

  #lookAt(ply) {
    this.#looked = ply >= this.#game.ply ? null : Math.max(0, ply);
    this.#draw();
  }

  #step(where) {
    if (!this.#game) return;
    const now = this.#looked ?? this.#game.ply;
    const to = { first: 0, back: now - 1, next: now + 1, last: this.#game.ply }[where];
    if (to !== undefined) this.#lookAt(to);
  }

  #flip() {
    this.#isFlipped = !this.#isFlipped;
    this.#board.turnTo(other(this.#board.orientation));
    this.#draw();
  }

  /** `isError`: what one did has failed, which is said at once. */
  #note(text, isError = false) {
    if (this.#ended.signal.aborted) return;
    setText($("#game-note"), isError ? "" : text);
    setText($("#game-error"), isError ? text : "");
  }

  #showCrowd({ total, users }) {
    const crowd = $("#crowd");
    crowd.dataset.total = total;
    if (total === 0) return crowd.replaceChildren();
    const names = users.flatMap((user, index) => [index > 0 ? ", " : "", nameOf(user)]);
    const more = total > users.length ? ` and ${total - users.length} more` : "";
    crowd.replaceChildren(make("span", { text: `Watching (${total}): ` }), ...names, more);
  }

  // Drawing

  /** Timers and answers may come after the view was closed: the page shows something else then. */
  #draw() {
    const game = this.#game;
    if (!game || this.#ended.signal.aborted) return;
    document.body.dataset.online = String(this.#isOnline);
    this.#drawBoard();
    this.#drawSides();
    this.#moves.show(game.moves, this.#looked ?? game.ply);
    this.#drawWords();
    this.#drawActions();
    this.#follow();
    this.#tick();
  }

  #follow() {
    const opponent = this.#you && other(this.#you);
    const isGone = opponent !== null && this.#statusOf(opponent) === "gone";
    this.#speech.follow(this.#game, opponent && { name: this.#game[opponent].name, isGone });
  }

  #drawSides() {
    const game = this.#game;
    const fen = this.#looked === null ? game.fen : this.#fenAfter(this.#looked);
    const { captured, ahead } = material(fen);
    for (const [place, color] of this.#places()) {
      this.#sides[place].show({
        color,
        user: game[color],
        isMe: game[color].id === this.#me.id,
        status: this.#statusOf(color),
        captured: captured[other(color)],
        ahead: color === "white" ? ahead : -ahead,
        isRunning: game.clocks.running === color,
      });
    }
  }

  #drawBoard() {
    const game = this.#game;
    const isLooking = this.#looked !== null;
    const ply = this.#looked ?? game.ply;
    const pending = isLooking ? null : this.#pending;
    const fen = isLooking ? this.#fenAfter(ply) : pending?.uci ? afterMove(game.fen, pending.uci) : game.fen;
    this.#board.show(fen, true);
    this.#board.mark({
      last: game.lastSquares(ply),
      check: !isLooking && game.check && !pending ? kingOf(game.fen, game.turn) : null,
      pending: pending?.uci ? [pending.uci.slice(0, 2), pending.uci.slice(2, 4)] : [],
    });
    const canMove = this.#canMove();
    if (!canMove) this.#promoting?.abort();
    this.#board.allow(this.#you, canMove ? game.legal : null);
    $("#move-form").hidden = this.#you === null || Boolean(game.result);
  }

  #drawWords() {
    // A hint goes once it isn't true any more.
    if ($("#game-note").textContent !== this.#hindrance()) setText($("#game-note"), "");
    const { white, black, turn, check, result } = this.#game;
    $("#game-title").replaceChildren(nameOf(white), " – ", nameOf(black));
    setText($("#game-control"), timeControl(this.#game));
    const mine = this.#you === turn;
    let says;
    if (result) says = `${{ white: "1 – 0", black: "0 – 1" }[result.winner] ?? "½ – ½"}. ${result.message}`;
    else if (this.#pending) says = this.#pending.isLate ? `Your move ${this.#pending.move} isn't confirmed yet.` : "";
    else if (this.#you) says = mine ? "Your turn." : "Waiting for your opponent.";
    else says = `${capital(turn)} to move.`;
    if (!result && check && !this.#pending) says += " Check!";
    setText($("#game-state"), says);
    const seconds = Math.ceil(this.#game.paused_ms / 1000);
    $("#game-pause").hidden = seconds === 0;
    setText($("#game-pause"), `The site was down for ${seconds} s in all. Nobody's clock ran meanwhile.`);
    $("#game-state").dataset.over = String(Boolean(result));
    // The end is said at once, elsewhere.
    $("#game-state").setAttribute("aria-live", result ? "off" : "polite");
    $("#game-pgn").hidden = !result;
    $("#game-pgn").href = `/game/${this.#game.id}/pgn`;
    setTitle(!result && mine ? "Your turn – Chess" : `${white.name} – ${black.name}`);
  }

  #drawActions() {
    const { turn, ply, result, draw_offer, rematch } = this.#game;
    const opponent = this.#you && other(this.#you);
    const isThere = opponent !== null && ["here", "away"].includes(this.#statusOf(opponent));
    this.#actions.show({
      you: this.#you,
      opponent: opponent && this.#game[opponent],
      isOnline: this.#isOnline,
      result,
      drawOffer: draw_offer,
      rematch,
      isOpponentThere: isThere,
      claimIn: opponent && !result && turn === opponent && ply >= 2 ? this.#claimIn(opponent) : null,
    });
  }

  #places() {
    const bottom = this.#board.orientation;
    return [["top", other(bottom)], ["bottom", bottom]];
  }

  #fenAfter(ply) {
    return ply === 0 ? START : this.#game.moves[ply - 1].fen;
  }

  #statusOf(color) {
    if (!this.#isOnline || this.#presences === null) return "unknown";
    const metas = this.#presences.get(this.#game[color].id) ?? [];
    if (metas.length > 0) return metas.some(({ status }) => status === "here") ? "here" : "away";
    if (!this.#absent[color]) return "absent";
    return this.#absent[color].bye || this.#claimIn(color) <= 0 ? "gone" : "lost";
  }

  /** In how many milliseconds a victory over this absent player can be claimed; null if the player is there. */
  #claimIn(color) {
    const absence = this.#absent[color];
    if (!absence || !this.#isOnline) return null;
    return Math.max(0, absence.claim_in_ms - (performance.now() - this.#absentSince));
  }

  #tick() {
    const game = this.#game;
    if (!game) return;
    for (const [place, color] of this.#places()) this.#sides[place].showTime(game.left(color));
    const { running } = game.clocks;
    if (running && this.#speech.tick(running, game.left(running), this.#you)) play("time");
    const now = performance.now();
    if (running && game.left(running) === 0 && this.#isOnline && now - this.#asked >= ASK_AGAIN) {
      this.#asked = now;
      this.#sync();
    }
    if (!this.#absent.white && !this.#absent.black) return;
    // Somebody who is lost is gone after a while, and the game can be claimed, without another message.
    this.#drawSides();
    this.#drawActions();
    this.#follow();
  }
}
