// The page: its connection, its views, and which of them is shown.

import { Presence, Socket } from "./phoenix.mjs";
import { explainView } from "./explain.js";
import { plotsView } from "./plots.js";
import { el, nodesView, topicView, topicsView } from "./views.js";

/** How many samples are kept: those of five minutes. */
const KEPT = 300;
/** How long the server has to answer, in milliseconds. */
const TIMEOUT = 10_000;

const VIEWS = { nodes: nodesView, topics: topicsView, topic: topicView, explain: explainView, plots: plotsView };

/** Shared by the views. */
const page = {
  /** The reply to the join of the page. */
  info: { node: "", can_disconnect: false },
  /** The samples of the last minutes, each with the time at which it came, in seconds. */
  samples: [],

  /** Asks the server. Rejects with a text that says why it has no answer. */
  ask(event, payload = {}) {
    return new Promise((resolve, reject) => {
      channel
        .push(event, payload, TIMEOUT)
        .receive("ok", resolve)
        .receive("error", ({ reason }) => reject(new Error(reason ?? "The server refused.")))
        .receive("timeout", () => reject(new Error("The server did not answer in time.")));
    });
  },

  /** Has a function called with each event of this name. Returns what ends that. */
  on(event, listener) {
    const ref = channel.on(event, listener);
    return () => channel.off(event, ref);
  },

  /** Shows another view. */
  go(view, params = {}) {
    location.hash = hashOf(view, params);
  },

  hashOf,
};

const main = document.getElementById("main");
const connection = document.getElementById("connection");

const socket = new Socket(new URL("live", import.meta.url).pathname);
const channel = socket.channel("console");
let shown = null;

function hashOf(view, params) {
  const query = new URLSearchParams(params).toString();
  return query === "" ? `#${view}` : `#${view}?${query}`;
}

function setConnection(state, text) {
  connection.dataset.state = state;
  connection.textContent = text;
}

function show() {
  const [name, query = ""] = location.hash.slice(1).split(/\?(.*)/s);
  const isKnown = Object.hasOwn(VIEWS, name);
  const key = isKnown ? name : "nodes";
  const params = Object.fromEntries(new URLSearchParams(query));
  if (shown?.key === key && shown.view.update?.(params)) return;
  shown?.view.leave?.();
  main.replaceChildren();
  const view = VIEWS[key](page, main, params);
  const isFirst = shown === null;
  shown = { key, view };
  const title = main.querySelector("h2")?.textContent ?? "adsum";
  document.title = `${title} · adsum`;
  for (const link of document.querySelectorAll("nav a")) {
    const of = link.getAttribute("href").slice(1);
    if (of === key || (of === "topics" && key === "topic")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!isFirst) main.focus();
  const last = page.samples.at(-1);
  if (last !== undefined) view.sample?.(last);
}

channel.on("sample", (sample) => {
  page.samples.push({ at: Date.now() / 1000, ...sample });
  if (page.samples.length > KEPT) page.samples.shift();
  shown?.view.sample?.(page.samples.at(-1));
});

const visitors = new Presence(channel);
visitors.onSync(() => {
  const count = visitors.list((_, { metas }) => metas.length).reduce((sum, pages) => sum + pages, 0);
  document.getElementById("visitors").textContent = count > 1 ? `${count} pages look at this.` : "";
});

socket.onError(() => setConnection("lost", "Connection lost; trying again"));
socket.onClose(() => setConnection("lost", "Connection lost; trying again"));
channel.onError(() => setConnection("lost", "Connection lost; trying again"));

let isFirstJoin = true;
channel.join().receive("ok", (info) => {
  page.info = info;
  document.getElementById("where").replaceChildren("seen from ", el("strong", {}, info.node));
  setConnection("live", "Live");
  if (isFirstJoin) show();
  isFirstJoin = false;
}).receive("error", () => setConnection("lost", "The server refused this page"));

addEventListener("hashchange", show);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
socket.connect();
