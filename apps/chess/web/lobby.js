// The lobby: who is here, what can be joined, what is played, and what concerns me.

import { $, nameOf, problem, setText, setTitle } from "./dom.js";
import { Feed } from "./feed.js";
import { attention } from "./live.js";
import { askTerms } from "./offer.js";
import { People, person } from "./people.js";
import { Games, Invites, Seeks } from "./tables.js";

const OUTCOMES = {
  declined: " has declined your invite.",
  expired: " hasn't answered your invite.",
  left: " has left.",
};

/** The lists, which the server sends one after another; they are shown together, so that none moves another. */
const LISTS = ["people", "seeks", "games", "mine"];

/** How long to wait for all of them, in milliseconds. */
const PATIENCE = 2_000;

/**
 * It lives as long as one is signed in, in all views. `openGame(id, isFromHere)`: a game of mine has begun, and whether in
 * this tab. `onPlaying(id)`: what I play, or null.
 */
export class Lobby {
  #me;
  #mine = null;
  #openGame;
  #onPlaying;
  /** The game that I play; undefined while it isn't known. */
  #playing;
  #people;
  #invites;
  #seeks;
  #games = new Games();
  #feed = new Feed($("#feed"));
  #awaited = new Set(LISTS);
  #patience = setTimeout(() => this.#reveal(), PATIENCE);

  constructor(live, me, { openGame, onPlaying }) {
    this.#me = me;
    this.#openGame = openGame;
    this.#onPlaying = onPlaying;
    $(".lobby").dataset.loading = "true";
    const send = (event, payload) => this.#send(event, payload);
    this.#people = new People({ myId: me.id, invite: (user) => this.#invite(user) });
    this.#invites = new Invites({ myId: me.id, act: (event, id) => send(event, { id }) });
    this.#seeks = new Seeks({ myId: me.id, take: (id) => send("take", { id }), unseek: () => send("unseek") });
    $("#open-seek").onclick = () => this.#seek();
    live.join("lobby", () => ({ status: attention() }), {
      onPresence: (presences, fresh) => {
        this.#showPeople(presences.map(person), fresh);
        this.#shown("people");
      },
      events: {
        seeks: (seeks) => {
          this.#seeks.show(seeks);
          this.#shown("seeks");
        },
        games: (games) => {
          this.#games.show(games);
          this.#shown("games");
        },
      },
    });
    this.#mine = live.join(`user:${me.id}`, undefined, {
      onJoin: (mine) => {
        this.#showMine(mine);
        this.#shown("mine");
      },
      events: {
        mine: (mine) => this.#showMine(mine),
        invite_over: (invite) => this.#inviteOver(invite),
        game_started: ({ game }) => this.#openGame(game),
      },
    });
  }

  /** Forgets what is shown, and ends its timers. */
  close() {
    clearTimeout(this.#patience);
    this.#people.close();
    this.#invites.show([]);
    this.#seeks.show({ seeks: [], total: 0 });
    this.#games.close();
    this.#feed.clear();
    this.#say("news");
  }

  #shown(list) {
    this.#awaited.delete(list);
    if (this.#awaited.size === 0) this.#reveal();
  }

  #reveal() {
    clearTimeout(this.#patience);
    $(".lobby").dataset.loading = "false";
  }

  #showPeople(everyone, fresh) {
    this.#people.show(everyone);
    const people = everyone.filter(({ isBot }) => !isBot);
    this.#feed.follow(people, this.#me.id, fresh);
    setText($("#count"), people.length === 1 ? "1 person" : `${people.length} people`);
    $("#alone").hidden = people.some(({ id }) => id !== this.#me.id);
    if (document.body.dataset.view === "lobby") setTitle(`(${people.length}) Chess`);
  }

  #showMine({ playing, seek, invites }) {
    // It may have begun without a word that was heard.
    const hasBegun = this.#playing === null && playing;
    this.#playing = playing;
    this.#invites.show(invites);
    this.#onPlaying(playing);
    if (hasBegun) this.#openGame(playing);
    $("#open-seek").hidden = Boolean(playing);
    setText($("#open-seek"), seek ? "Change your seek" : "Find an opponent");
  }

  #inviteOver({ from, to, outcome }) {
    const isMine = from.id === this.#me.id;
    if (isMine && OUTCOMES[outcome]) this.#say("news", nameOf(to), OUTCOMES[outcome]);
    else if (!isMine && outcome === "withdrawn") this.#say("news", nameOf(from), " has withdrawn the invite.");
    else if (!isMine && outcome === "left") this.#say("news", nameOf(from), " has left.");
  }

  async #seek() {
    const terms = await askTerms();
    if (terms) await this.#send("seek", terms);
  }

  async #invite(user) {
    const terms = await askTerms(user);
    if (terms) await this.#send("invite", { to: user.id, ...terms });
  }

  async #send(event, payload) {
    const { ok, error } = await this.#mine.push(event, payload);
    this.#say("problem", ok ? "" : problem(error));
    if (ok?.game) this.#openGame(ok.game, true);
  }

  #say(kind, ...parts) {
    $("#lobby-note").dataset.kind = kind;
    $("#lobby-note").replaceChildren(...parts);
  }
}
