// A short log of who came and who left.

/** The most lines that are shown. */
const LINES = 5;

/** Who is back within this many milliseconds has not left: a reload is no news. */
const GRACE = 4_000;

export class Feed {
  #list;
  #known = new Map();
  #leaving = new Map();

  constructor(list) {
    this.#list = list;
  }

  /** Takes the people who are here now. `fresh`: the list came anew, so no one came or left that we saw. */
  follow(people, myId, fresh) {
    const now = new Map(people.map(({ id, name }) => [id, name]));
    for (const [id, name] of now) {
      clearTimeout(this.#leaving.get(id));
      const wasLeaving = this.#leaving.delete(id);
      if (!fresh && !wasLeaving && !this.#known.has(id) && id !== myId) this.#say(name, "came in");
    }
    for (const [id, name] of this.#known) {
      if (fresh || now.has(id) || id === myId) continue;
      const said = () => {
        this.#leaving.delete(id);
        this.#say(name, "left");
      };
      this.#leaving.set(id, setTimeout(said, GRACE));
    }
    this.#known = now;
  }

  clear() {
    for (const timer of this.#leaving.values()) clearTimeout(timer);
    this.#leaving.clear();
    this.#known.clear();
    this.#list.replaceChildren();
  }

  #say(name, what) {
    const line = document.createElement("li");
    const who = document.createElement("bdi");
    who.textContent = name;
    const when = document.createElement("time");
    const now = new Date();
    when.dateTime = now.toISOString();
    when.textContent = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    line.append(when, " ", who, ` ${what}`);
    this.#list.append(line);
    while (this.#list.children.length > LINES) this.#list.firstChild.remove();
  }
}
