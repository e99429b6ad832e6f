// The list of people. Rows stay the same elements as long as somebody is here, so that nothing flickers and
// nothing is read out twice.

import { avatar } from "./pieces.js";

const DEVICES = { desktop: "computer", phone: "phone" };

export class People {
  #list;
  #rows = new Map();

  constructor(list) {
    this.#list = list;
    setInterval(() => this.#refreshTimes(), 10_000);
  }

  /** Shows these people: you first, then by when they came. */
  show(people, myId) {
    const order = [...people].sort(
      (a, b) => (b.id === myId) - (a.id === myId) || a.since - b.since || Number(a.id) - Number(b.id),
    );
    const here = new Set(order.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (here.has(id)) continue;
      row.element.remove();
      this.#rows.delete(id);
    }
    order.forEach((person, index) => {
      let row = this.#rows.get(person.id);
      if (!row) {
        row = new Row(person.id, person.id === myId);
        this.#rows.set(person.id, row);
      }
      row.show(person);
      if (this.#list.children[index] !== row.element) {
        this.#list.insertBefore(row.element, this.#list.children[index] ?? null);
      }
    });
  }

  clear() {
    this.#rows.clear();
    this.#list.replaceChildren();
  }

  #refreshTimes() {
    for (const row of this.#rows.values()) row.refreshTime();
  }
}

class Row {
  #name = part("bdi", "name");
  #status = part("span", "status");
  #since = part("time", "since");
  #tabs = part("span", "tabs");

  constructor(id, isMe) {
    this.element = document.createElement("li");
    this.element.className = "person";
    this.element.dataset.test = "person";
    this.element.dataset.userId = id;

    const title = document.createElement("span");
    title.className = "title";
    title.append(this.#name);
    if (isMe) {
      const you = part("span", "you");
      you.textContent = "you";
      title.append(" ", you);
      this.element.classList.add("me-row");
    }
    const details = document.createElement("span");
    details.className = "details";
    details.append(this.#since, " ", this.#tabs);

    this.element.append(avatar(id), title, details, this.#status);
  }

  show({ name, tabs, devices, since, away }) {
    setText(this.#name, name);
    setText(this.#status, away ? "away" : "here");
    this.element.dataset.status = away ? "away" : "here";
    const where = devices.map((device) => DEVICES[device] ?? device).join(" and ");
    setText(this.#tabs, tabs > 1 ? (devices.length > 1 ? `${tabs} tabs, ${where}` : `${tabs} tabs`) : "");
    this.#tabs.hidden = tabs <= 1;
    this.#since.dateTime = new Date(since * 1000).toISOString();
    this.refreshTime();
  }

  refreshTime() {
    setText(this.#since, lasting(Date.parse(this.#since.dateTime)));
  }
}

function part(tag, test) {
  const element = document.createElement(tag);
  element.className = test;
  element.dataset.test = test;
  return element;
}

// Writing the same text again would make a screen reader say it again.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Since when, in few words. A clock that is ahead of the server's gives "just now", never the future. */
function lasting(milliseconds) {
  const minutes = Math.floor((Date.now() - milliseconds) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `for ${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `for ${hours} h` : `for ${Math.floor(hours / 24)} days`;
}
