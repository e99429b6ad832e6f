// The page: either the door, where one chooses a name, or the lobby behind it.

import { Feed } from "./feed.js";
import { openLobby } from "./lobby.js";
import { People } from "./people.js";
import { drawBoard } from "./pieces.js";

/** How long the first connection may take before the page says that something is wrong, in milliseconds. */
const PATIENCE = 2_500;

/** How often in a row the lobby may be refused to somebody whom the server knows before the page says so. */
const REFUSALS = 3;

const SAYS = {
  lost: "Connection lost. Trying to get back…",
  refused: `The site answers, but refuses the live connection from ${location.origin}. Its operator may have to name this
    address (--origin), or let WebSockets through a proxy. Trying again…`,
};

/** How long to wait before asking again who we are, when the server did not answer, in milliseconds. */
const RETRY = 2_000;

const $ = (selector) => document.querySelector(selector);
const connection = $("[data-test=connection]");
const form = $("#name-form");
const people = new People($("#people"));
const feed = new Feed($("#feed"));

// The other tabs of this browser share the session: they start anew when it changes.
const session = new BroadcastChannel("session");
session.onmessage = () => location.reload();

let lobby = null;

drawBoard($("#board"), "r1bqk2r/pppp1ppp/2n2n2/2b1p3/2B1P3/2P2N2/PP1P1PPP/RNBQ1RK1");
start();

async function start() {
  const patience = setTimeout(() => showConnection("lost"), PATIENCE);
  let me = await whoAmI();
  while (me === undefined) {
    await new Promise((resolve) => setTimeout(resolve, RETRY));
    me = await whoAmI();
  }
  clearTimeout(patience);
  if (me) enter(me);
  else showDoor();
}

/** The user that the server takes us for, null if none; undefined if it did not answer. */
async function whoAmI() {
  try {
    const response = await fetch("/me");
    return response.ok ? (await response.json()).user : undefined;
  } catch {
    return undefined;
  }
}

function showDoor() {
  lobby?.close();
  lobby = null;
  people.clear();
  feed.clear();
  document.title = "Chess";
  document.body.dataset.view = "door";
  $("#me").hidden = true;
  showConnection("online");
}

function enter(me) {
  const myId = String(me.id);
  $("#my-name").textContent = me.name;
  $("#me").hidden = false;
  document.body.dataset.view = "lobby";
  showConnection("connecting");
  const patience = setTimeout(() => showConnection("lost"), PATIENCE);
  let refusals = 0;
  lobby?.close();
  lobby = openLobby({
    onPeople(everyone, fresh) {
      people.show(everyone, myId);
      feed.follow(everyone, myId, fresh);
      const others = everyone.filter(({ id }) => id !== myId).length;
      $("#count").textContent = everyone.length === 1 ? "1 person" : `${everyone.length} people`;
      $("#alone").hidden = others > 0;
      document.title = `(${everyone.length}) Chess`;
    },
    onConnection(state) {
      clearTimeout(patience);
      if (state === "online") refusals = 0;
      showConnection(state === "lost" && refusals >= REFUSALS ? "refused" : state);
    },
    async onRefused() {
      const user = await whoAmI();
      if (user === null) return showDoor();
      // Whoever is known and refused all the same is told: waiting won't help, as it does where nobody answers.
      refusals = user ? refusals + 1 : 0;
      if (refusals >= REFUSALS && connection.dataset.state === "lost") showConnection("refused");
    },
  });
}

function showConnection(state) {
  if (connection.dataset.state === state) return;
  connection.dataset.state = state;
  connection.textContent = SAYS[state] ?? "";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  const problem = await chooseName(form.elements.name.value);
  button.disabled = false;
  $("#name-error").textContent = problem ?? "";
  form.elements.name.setAttribute("aria-invalid", String(Boolean(problem)));
  if (problem) {
    form.elements.name.focus();
  } else {
    form.reset();
    $("#lobby-title").focus();
  }
});

/** Asks for a name and enters with it. Returns what is wrong, if something is. */
async function chooseName(name) {
  try {
    const response = await fetch("/session", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name }),
    });
    const answer = await response.json();
    if (!response.ok) return answer.message;
    session.postMessage("in");
    enter(answer.user);
    return null;
  } catch {
    return "The server did not answer. Please try again in a moment.";
  }
}

$("#sign-out").addEventListener("click", async () => {
  try {
    const response = await fetch("/session", { method: "DELETE" });
    if (!response.ok) return;
  } catch {
    // The banner says already that the server can't be reached.
    return;
  }
  session.postMessage("out");
  showDoor();
  form.elements.name.focus();
});
