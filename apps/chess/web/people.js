// The list of people. Rows stay the same elements as long as somebody is here.

import { $, Rows, make, part, setText } from "./dom.js";
import { avatar } from "./pieces.js";

const DEVICES = { desktop: "computer", phone: "phone" };

/** One person or bot out of all their tabs and devices, from an entry of the presence of the lobby. */
export function person({ id, metas, user, playing }) {
  // A tab that has a game open is there twice: once for the lobby, and once for the game.
  const tabs = metas.filter(({ game }) => !game);
  const watched = metas.find(({ status }) => status === "watching");
  return {
    id,
    name: user?.name ?? "Somebody",
    isBot: Boolean(user?.bot),
    user: user ?? { id, name: "Somebody", bot: false },
    tabs: Math.max(1, tabs.length),
    devices: [...new Set(tabs.map(({ device }) => device))].sort(),
    since: Math.min(...metas.map(({ online_at }) => online_at)),
    games: Math.max(0, ...metas.map(({ games }) => games ?? 0)),
    playing: playing ?? null,
    watching: watched?.game ?? null,
    away: metas.every(({ status }) => status === "away"),
  };
}

/** People and bots. `invite(user)`: to ask somebody for a game. */
export class People {
  #people;
  #bots;
  #myId;
  #everyone = [];
  #search = $("#search");
  #timer = setInterval(() => this.#people.each((row) => row.refreshTime()), 10_000);

  constructor({ myId, invite }) {
    this.#myId = myId;
    const draw = (one) => new Row(one, one.id === myId, () => invite(one.user));
    this.#people = new Rows($("#people"), draw);
    this.#bots = new Rows($("#bots"), draw);
    this.#search.oninput = () => this.#draw();
  }

  /** Lists nobody any more. */
  close() {
    clearInterval(this.#timer);
    this.show([]);
  }

  show(everyone) {
    this.#everyone = [...everyone].sort(
      (a, b) => (b.id === this.#myId) - (a.id === this.#myId) || a.since - b.since || a.id.localeCompare(b.id),
    );
    this.#draw();
  }

  #draw() {
    const wanted = this.#search.value.trim().toLowerCase();
    const fits = this.#everyone.filter(({ name }) => name.toLowerCase().includes(wanted));
    this.#people.show(fits.filter(({ isBot }) => !isBot));
    this.#bots.show(fits.filter(({ isBot }) => isBot));
    $("#bots-box").hidden = !this.#everyone.some(({ isBot }) => isBot);
    $("#nobody").hidden = wanted === "" || fits.length > 0;
  }
}

class Row {
  #status = part("span", "status");
  #name = part("bdi", "name");
  #since = part("time", "since");
  #tabs = part("span", "tabs");
  #invite;
  #isMe;
  #isBot;

  constructor({ id, isBot }, isMe, invite) {
    this.#isMe = isMe;
    this.#isBot = isBot;
    this.element = make("li", { class: "person", "data-test": isBot ? "bot" : "person", "data-user-id": id });
    const title = make("span", { class: "title" }, this.#name);
    if (isMe) title.append(" ", make("span", { class: "tag", text: "you" }));
    if (isBot) title.append(" ", make("span", { class: "tag", text: "bot" }));
    const details = make("span", { class: "details" }, this.#status, " ", this.#since, " ", this.#tabs);
    this.#invite = make("button", { type: "button", class: "quiet", "data-test": "invite-button", text: isBot ? "Play" : "Invite" });
    this.#invite.addEventListener("click", invite);
    this.element.append(avatar(id), title, details, this.#invite);
    if (isMe) this.element.classList.add("me-row");
  }

  show({ name, tabs, devices, since, away, playing, watching, games }) {
    setText(this.#name, name);
    const status = playing ? "playing" : watching ? "watching" : away ? "away" : "here";
    this.#showStatus(status, playing ?? watching, games);
    this.element.dataset.status = status;
    this.#invite.hidden = this.#isMe || Boolean(playing);
    this.#invite.setAttribute("aria-label", `${this.#invite.textContent} ${name}`);
    const where = devices.map((device) => DEVICES[device] ?? device).join(" and ");
    setText(this.#tabs, tabs > 1 ? (devices.length > 1 ? `${tabs} tabs, ${where}` : `${tabs} tabs`) : "");
    this.#tabs.hidden = tabs <= 1;
    this.#since.hidden = this.#isBot;
    this.#since.dateTime = new Date(since * 1000).toISOString();
    this.refreshTime();
  }

  #showStatus(status, game, games) {
    if (this.#isBot) return setText(this.#status, games > 0 ? `playing ${games}` : "here");
    if (!game) return setText(this.#status, status);
    const link = this.#status.querySelector("a");
    if (link?.textContent === status && link.getAttribute("href") === `/game/${game}`) return;
    this.#status.replaceChildren(make("a", { href: `/game/${game}`, text: status }));
  }

  refreshTime() {
    setText(this.#since, lasting(Date.parse(this.#since.dateTime)));
  }
}

/** Since when, in few words. A clock that is ahead of the server's gives "just now", never the future. */
function lasting(milliseconds) {
  const minutes = Math.floor((Date.now() - milliseconds) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `for ${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `for ${hours} h` : `for ${Math.floor(hours / 24)} days`;
}
