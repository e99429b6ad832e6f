// The nodes, the topics, and what is in a topic.

/** An element with attributes and children; children are text or elements. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A time in seconds, as people say it. */
export function time(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export const number = (value) => value.toLocaleString("en");

/** A table that scrolls by itself where it is too wide, by keys too. */
export function table(label, head, rows) {
  const cells = (row) => row.map((cell, index) => (index === 0 ? el("th", { scope: "row" }, cell) : el("td", {}, cell)));
  return el(
    "div",
    { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells(row)))),
    ),
  );
}

/** Puts a new table in the place of one, and keeps how far it is scrolled and whether it has the focus. */
export function replaceTable(before, next) {
  const { scrollLeft, scrollTop } = before;
  const hadFocus = document.activeElement === before;
  before.replaceWith(next);
  Object.assign(next, { scrollLeft, scrollTop });
  if (hadFocus) next.focus({ preventScroll: true });
  return next;
}

const STATES = { unheard: "not heard here", up: "up", down: "down", departed: "has left", starting: "starting", duplicate: "duplicate name" };

function badge(state, text) {
  return el("span", { class: "badge", "data-state": state }, text);
}

/** Which nodes there are, and how each hears the others. */
export function nodesView(page, main) {
  let nodes = el("p", {}, "Waiting for the first answers.");
  let matrix = el("p", {});
  main.append(
    el("h2", {}, "Nodes"),
    el("p", {}, "Every node that is up is asked once a second, whichever node this page is on."),
    nodes,
    el("h3", {}, "How each hears the others"),
    el("p", {}, "A row is a node that listens; a column is a node that it hears, with the time since then."),
    matrix,
  );

  return {
    sample(sample) {
      const names = new Set(Object.keys(sample.nodes));
      for (const { nodes } of Object.values(sample.nodes)) for (const { name } of nodes) names.add(name);
      const sorted = [...names].sort();
      const own = (name) => sample.nodes[name]?.nodes.find((node) => node.is_self);
      const here = (name) => sample.nodes[sample.node]?.nodes.find((node) => node.name === name);
      const rows = sorted.map((name) => {
        const report = sample.nodes[name];
        const state = here(name)?.state ?? "unheard";
        const asSeen = badge(state, STATES[state] ?? state);
        if (report === undefined) {
          return [name, asSeen, badge("down", sample.unanswered.includes(name) ? "no answer" : "not asked"), "", "", ""];
        }
        return [
          name === sample.node ? `${name} (this one)` : name,
          asSeen,
          `${report.after_ms.toFixed(1)} ms`,
          number(own(name)?.presences ?? 0),
          number(report.holders),
          report.is_connected ? "reached" : badge("down", "not reached"),
        ];
      });
      const head = ["Node", "State", "Answered after", "Its presences", "Their owners", "Engine"];
      nodes = replaceTable(nodes, table("Nodes", head, rows));
      const hears = sorted.map((listener) => {
        const report = sample.nodes[listener];
        const cells = sorted.map((heard) => {
          if (heard === listener) return "–";
          const node = report?.nodes.find(({ name }) => name === heard);
          if (report === undefined) return "?";
          if (node === undefined) return badge("down", "doesn't know it");
          const behind = node.behind > 0 ? `, ${number(node.behind)} behind` : "";
          return badge(node.state, `${STATES[node.state] ?? node.state}, ${time(node.silent_for)}${behind}`);
        });
        return [listener, ...cells];
      });
      matrix = replaceTable(matrix, table("How each node hears the others", ["Node", ...sorted], hears));
    },
  };
}

/** The largest topics, with a search. */
export function topicsView(page, main, { search = "" }) {
  const input = el("input", { id: "search", name: "search", type: "search", value: search, autocomplete: "off", spellcheck: "false" });
  const note = el("p", { role: "status" });
  let list = el("p", {}, "Asking for topics.");
  let asked = 0;
  let samples = 0;

  async function ask() {
    const number_of_this = (asked += 1);
    try {
      const { topics, found, all } = await page.ask("topics", { search: input.value });
      if (number_of_this !== asked) return;
      const shown = topics.length < found ? `The ${topics.length} largest of ${number(found)} topics` : `${number(found)} topics`;
      const text = found === all ? `${shown}.` : `${shown} that contain the text, of ${number(all)}.`;
      if (note.textContent !== text) note.textContent = text;
      const rows = topics.map(({ topic, presences, keys }) => [
        el("a", { href: page.hashOf("topic", { topic }) }, topic),
        number(presences),
        number(keys),
      ]);
      // A link that has the focus stays what it is.
      if (!list.contains(document.activeElement) || list === document.activeElement) {
        list = replaceTable(list, table("Topics by size", ["Topic", "Presences", "Keys"], rows));
      }
    } catch (error) {
      if (number_of_this === asked) note.textContent = error.message;
    }
  }

  const form = el("form", { class: "row", role: "search", onsubmit: (event) => { event.preventDefault(); void ask(); } },
    el("label", { for: "search" }, "Search"), input, el("button", {}, "Search"));
  let typing;
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(ask, 200);
  });
  main.append(el("h2", {}, "Topics"), form, note, list);
  void ask();

  return {
    sample() {
      samples += 1;
      if (samples % 5 === 0) void ask();
    },
    leave() {
      asked += 1;
    },
  };
}

/** The keys of one topic, in pages. */
export function topicView(page, main, { topic = "", after }) {
  const note = el("p", { role: "status" });
  const buttons = el("p", { class: "row" });
  let list = el("p", {}, "Asking for the keys.");
  let isOver = false;
  main.append(
    el("h2", {}, `Topic ${topic}`),
    note,
    list,
    buttons,
  );

  async function ask() {
    try {
      const { keys, next, key_count, presences } = await page.ask("page", { topic, after: after ?? null });
      if (isOver) return;
      note.textContent = `${number(presences)} presences under ${number(key_count)} keys.`;
      const rows = keys.map(({ key, presences, left_out }) => [
        key,
        el("ul", { class: "plain" }, ...presences.map(({ reference, node, meta }) =>
          el("li", {}, el("code", {}, reference), ` on ${node ?? "?"} `, el("code", { class: "meta" }, meta))),
          left_out > 0 ? el("li", {}, `and ${number(left_out)} more`) : null),
        el("a", { href: page.hashOf("explain", { topic, key }) }, "Explain", el("span", { class: "hidden" }, ` ${key}`)),
      ]);
      list = replaceTable(list, table(`Keys of ${topic}`, ["Key", "Presences", "Why"], rows));
      buttons.replaceChildren(
        ...(after === undefined ? [] : [el("a", { class: "button", href: page.hashOf("topic", { topic }) }, "First page")]),
        ...(next === null ? [] : [el("a", { class: "button", href: page.hashOf("topic", { topic, after: next }) }, "Next page")]),
        el("button", { type: "button", onclick: () => void ask() }, "Look again"),
      );
    } catch (error) {
      note.textContent = error.message;
    }
  }
  void ask();
  return {
    leave() {
      isOver = true;
    },
  };
}
