// Why somebody is in a topic, or isn't; and the messages of a socket.

import { el, time } from "./views.js";

/** The time from an answer to the next question, in milliseconds. */
const PAUSE = 2_000;
/** How many messages of a watched socket are shown. */
const SHOWN = 200;
/** How long the second click of a button has to come, in milliseconds. */
const CONFIRM = 5_000;

export function explainView(page, main, params) {
  let { topic = "", key = "" } = params;
  let asked = 0;
  let timer;
  /** By the names of presences. */
  let sections = new Map();

  const topicInput = el("input", { id: "topic", name: "topic", required: true, value: topic, autocomplete: "off", spellcheck: "false" });
  const keyInput = el("input", { id: "key", name: "key", required: true, value: key, autocomplete: "off", spellcheck: "false" });
  const failure = el("p", { role: "alert" });
  const summary = el("div", { id: "summary" });
  const presences = el("div", { id: "presences" });
  const leaves = el("div", { id: "leaves" });
  const nodes = el("p", { id: "answers" });
  const result = el("section", { "aria-label": "The explanation", hidden: true }, summary, presences, leaves, nodes);
  const watch = watchPanel(page);
  const form = el(
    "form",
    { class: "fields", onsubmit: (event) => {
      event.preventDefault();
      page.go("explain", { topic: topicInput.value, key: keyInput.value });
      if (topic === topicInput.value && key === keyInput.value) void ask();
    } },
    el("div", {}, el("label", { for: "topic" }, "Topic"), topicInput),
    el("div", {}, el("label", { for: "key" }, "Key"), keyInput),
    el("button", {}, "Explain"),
  );
  main.append(
    el("h2", {}, "Explain"),
    el("p", {}, "Why is somebody shown as online, or gone? All nodes are asked, and again every two seconds."),
    form,
    failure,
    result,
    watch.element,
  );

  async function ask() {
    clearTimeout(timer);
    const number = (asked += 1);
    if (topic === "" || key === "") return;
    try {
      const explanation = await page.ask("explain", { topic, key });
      if (number !== asked) return;
      failure.textContent = "";
      render(explanation);
    } catch (error) {
      if (number === asked) failure.textContent = error.message;
    }
    if (number === asked) timer = setTimeout(() => void ask(), PAUSE);
  }

  function render(explanation) {
    result.hidden = false;
    result.dataset.present = explanation.is_present;
    summary.replaceChildren(...explanation.summary.map((sentence) => el("p", {}, sentence)));
    const names = new Set(explanation.presences.map(({ presence }) => presence.reference));
    for (const [name, section] of sections) {
      if (!names.has(name)) {
        section.element.remove();
        sections.delete(name);
      }
    }
    for (const [index, told] of explanation.presences.entries()) {
      const name = told.presence.reference;
      if (!sections.has(name)) {
        const section = presenceSection(page, watch);
        sections.set(name, section);
        presences.append(section.element);
      }
      sections.get(name).render(index, told);
    }
    const left = explanation.leaves.map(({ sentence, leave }) => el("li", { "data-reason": leave.reason }, sentence));
    leaves.replaceChildren(...(left.length === 0 ? [] : [el("h3", {}, "Left of late"), el("ul", {}, ...left)]));
    const says = explanation.nodes.map(({ name, answered, silent_for }) =>
      answered ? `${name} answered` : `${name} did not answer, and was last heard ${time(silent_for)} ago`);
    nodes.textContent = `${says.join("; ")}.`;
  }

  void ask();
  return {
    update(next) {
      ({ topic = "", key = "" } = next);
      [topicInput.value, keyInput.value] = [topic, key];
      for (const { element } of sections.values()) element.remove();
      sections = new Map();
      result.hidden = true;
      void ask();
      return true;
    },
    leave() {
      asked += 1;
      clearTimeout(timer);
      watch.stop();
    },
  };
}

/** One presence: what is said of it, and what can be done about it. */
function presenceSection(page, watch) {
  const heading = el("h3", {});
  const list = el("ul", {});
  const buttons = el("p", { class: "row" });
  let made = "";
  return {
    element: el("section", { class: "card" }, heading, list, buttons),
    render(index, { presence, sentences }) {
      heading.textContent = `Presence ${index + 1}: ${presence.reference}`;
      list.replaceChildren(...sentences.map((sentence) => el("li", {}, sentence)));
      const { holder, node } = presence;
      const isOpen = holder?.socket && holder.ended === null && holder.socket.end === null;
      const id = isOpen && page.info.can_disconnect ? holder.socket.id : null;
      const wanted = JSON.stringify([isOpen ? [node.name, holder.owner] : null, id]);
      // Made once, so that the focus stays where it is.
      if (wanted === made) return;
      made = wanted;
      buttons.replaceChildren(
        ...(isOpen ? [el("button", { type: "button", onclick: () => watch.start(node.name, holder.owner) }, "Watch its messages for a minute")] : []),
        ...(id === null ? [] : [disconnectButton(page, id)]),
      );
    },
  };
}

/** A button that does it at the second click. */
function disconnectButton(page, id) {
  const text = `Disconnect all sockets of ${id}`;
  let timer = null;
  const button = el("button", { type: "button", class: "danger" }, text);
  const reset = () => {
    clearTimeout(timer);
    timer = null;
    button.textContent = text;
  };
  button.addEventListener("click", async () => {
    if (timer === null) {
      button.textContent = `Really? Click again to disconnect ${id}`;
      timer = setTimeout(reset, CONFIRM);
      return;
    }
    reset();
    try {
      await page.ask("disconnect", { id });
      button.textContent = `Told the sockets of ${id} to disconnect`;
    } catch (error) {
      button.textContent = `${text}: ${error.message}`;
    }
  });
  return button;
}

/** The messages of one socket, as they pass. */
function watchPanel(page) {
  const status = el("p", { role: "status" });
  const list = el("ol", { class: "messages", tabindex: "0", "aria-label": "Messages" });
  const stop = el("button", { type: "button", onclick: () => end("Stopped.") }, "Stop");
  const element = el("section", { id: "watch", "aria-label": "The messages of a socket", hidden: true }, el("h3", {}, "Messages of its socket"), status, stop, list);
  let offs = [];
  let count = 0;

  function end(text) {
    if (offs.length === 0) return;
    for (const off of offs) off();
    offs = [];
    status.textContent = `${text} ${count} messages were seen.`;
    stop.hidden = true;
    page.ask("unwatch").catch(() => {});
  }

  function add({ from_client, bytes, text, skipped }) {
    count += 1;
    const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
    if (skipped > 0) list.append(el("li", { class: "skipped" }, `${skipped} messages were left out`));
    list.append(el("li", { "data-from": from_client ? "client" : "server" },
      el("span", { class: "from" }, from_client ? "client" : "server"), ` ${bytes} B `, el("code", {}, text)));
    while (list.children.length > SHOWN) list.firstChild.remove();
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }

  return {
    element,
    async start(node, owner) {
      end("Stopped.");
      element.hidden = false;
      stop.hidden = false;
      list.replaceChildren();
      count = 0;
      status.textContent = `Asking ${node}.`;
      offs = [
        page.on("watching", () => { status.textContent = `Watching on ${node}, for a minute. Secrets are filtered.`; }),
        page.on("message", add),
        page.on("phx_error", () => end("The connection was lost.")),
        page.on("unwatched", ({ why }) => end(`Ended: ${why}.`)),
      ];
      try {
        await page.ask("watch", { node, owner });
      } catch (error) {
        end(error.message);
      }
    },
    stop: () => end("Stopped."),
  };
}
