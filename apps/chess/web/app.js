// The page: the door, where one chooses a name; the lobby behind it; a game.

import { Account } from "./account.js";
import { $, ask, setTitle } from "./dom.js";
import { GameView } from "./game.js";
import { Live } from "./live.js";
import { Lobby } from "./lobby.js";
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

const connection = $("[data-test=connection]");
const form = $("#name-form");

// The other tabs of this browser share the session: they start anew when it changes.
const session = new BroadcastChannel("session");
session.onmessage = () => location.reload();

let me = null;
let live = null;
let lobby = null;
let game = null;
let account = null;
/** The id of the game that we play. */
let myGame = null;

drawBoard($("#board"), "r1bqk2r/pppp1ppp/2n2n2/2b1p3/2B1P3/2P2N2/PP1P1PPP/RNBQ1RK1");
start();

async function start() {
  const patience = setTimeout(() => showConnection("lost"), PATIENCE);
  let user = await whoAmI();
  while (user === undefined) {
    await new Promise((resolve) => setTimeout(resolve, RETRY));
    user = await whoAmI();
  }
  clearTimeout(patience);
  if (user) enter(user);
  else showDoor();
}

/** The user that the server takes us for, and whether they have a password. Null if none; undefined if it did not answer. */
async function whoAmI() {
  try {
    const response = await fetch("/me");
    if (!response.ok) return undefined;
    const { user, has_password } = await response.json();
    return user && { ...user, hasPassword: has_password };
  } catch {
    return undefined;
  }
}

function showDoor() {
  closeGame();
  live?.close();
  lobby?.close();
  live = lobby = me = myGame = null;
  setTitle("Chess");
  document.body.dataset.view = "door";
  $("#me").hidden = true;
  showConnection("online");
}

/** `isMove`: whether whoever enters was at the door, which gives its place to another view. */
function enter(user, isMove = false) {
  me = user;
  $("#my-name").textContent = me.name;
  $("#me").hidden = false;
  showConnection("connecting");
  const patience = setTimeout(() => showConnection("lost"), PATIENCE);
  let refusals = 0;
  live = new Live({
    onConnection(state) {
      clearTimeout(patience);
      if (state === "online") refusals = 0;
      showConnection(state === "lost" && refusals >= REFUSALS ? "refused" : state);
    },
    async onRefused() {
      const known = await whoAmI();
      if (known === null) return showDoor();
      // Whoever is known and refused all the same is told: waiting won't help, as it does where nobody answers.
      refusals = known ? refusals + 1 : 0;
      if (refusals >= REFUSALS && connection.dataset.state === "lost") showConnection("refused");
    },
  });
  lobby = new Lobby(live, me, { openGame, onPlaying: showMyGame });
  showView(isMove);
}

// Which view

/** The game that the address names, or null. */
function gameInAddress() {
  return /^\/game\/([\w-]+)$/.exec(location.pathname)?.[1] ?? null;
}

/** Shows what the address says. `isMove`: it takes the place of another view, so whoever reads by ear is led to its heading. */
function showView(isMove) {
  const id = gameInAddress();
  const isAccount = location.pathname === "/you";
  closeGame();
  const view = id ? "game" : isAccount ? "account" : "lobby";
  document.body.dataset.view = view;
  setTitle("Chess");
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close("");
  showMyGame(myGame);
  if (isAccount) {
    account = new Account(me);
    setTitle("Your games – Chess");
  }
  if (!id) return isMove && focusHeading(view);
  game = new GameView(me);
  // Its heading is known then.
  game.open(live, id, { onMissing, onShown: () => isMove && focusHeading(view) });
  game.setOnline(connection.dataset.state === "online");
}

/** Not while somebody types already: the heading of a game comes with its first position. */
function focusHeading(view) {
  const focused = document.activeElement;
  if (focused?.matches("input") && focused.checkVisibility()) return;
  // It is below the board on a phone.
  $(`#${view}-title`).focus({ preventScroll: true });
}

/** The address of a game that isn't there is left for good: going back doesn't lead to it. */
function onMissing() {
  history.replaceState(null, "", "/");
  goTo("/", "There is no such game.");
}

function closeGame() {
  game?.close();
  account?.close();
  game = account = null;
}

function goTo(path, note = "") {
  if (path !== location.pathname) history.pushState(null, "", path);
  $("#lobby-note").textContent = note;
  scrollTo(0, 0);
  showView(true);
}

/**
 * Goes to a game of ours that has begun: it takes the place of the lobby or of a game that is over. Any other view
 * stays, unless the game was begun in this tab.
 */
function openGame(id, isFromHere = false) {
  if (id === gameInAddress()) return;
  if (isFromHere || (game === null ? account === null : game.isOver)) return goTo(`/game/${id}`);
  showMyGame(id);
}

/** Says that a game of ours is running, if it isn't the one that is shown. */
function showMyGame(id) {
  myGame = id;
  const notice = $("#my-game");
  notice.hidden = !id || gameInAddress() === id;
  if (id) notice.querySelector("a").href = `/game/${id}`;
}

window.addEventListener("popstate", () => me && showView(true));

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || !me || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || link.target) return;
  if (link.hasAttribute("download")) return;
  event.preventDefault();
  goTo(new URL(link.href).pathname);
});

function showConnection(state) {
  if (connection.dataset.state === state) return;
  connection.dataset.state = state;
  connection.textContent = SAYS[state] ?? "";
  if (game) game.setOnline(state === "online");
}

// Names

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  const problem = await chooseName(form.elements.name.value, form.elements.password.value);
  button.disabled = false;
  $("#name-error").textContent = problem?.message ?? "";
  const { name, password } = form.elements;
  const wrong = problem && (["wrong_password", "password_invalid"].includes(problem.reason) ? password : name);
  for (const field of [name, password]) field.setAttribute("aria-invalid", String(field === wrong));
  if (wrong) wrong.focus();
  else form.reset();
});

/** Asks for a name and enters with it. Returns the problem, if there is one: its `message`, and its `reason` if the server says so. */
async function chooseName(name, password) {
  try {
    const response = await fetch("/session", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(password ? { name, password } : { name }),
    });
    const answer = await response.json();
    if (!response.ok) {
      // The name may be one's own.
      if (answer.reason === "name_taken") $("#with-password").open = true;
      return answer;
    }
    session.postMessage("in");
    enter({ ...answer.user, hasPassword: Boolean(password) }, true);
    return null;
  } catch {
    return { message: "The server did not answer. Please try again in a moment." };
  }
}

async function signOut(path) {
  if (!(await isMeant())) return;
  try {
    const response = await fetch(path, { method: "DELETE" });
    if (!response.ok) return;
  } catch {
    // The banner says already that the server can't be reached.
    return;
  }
  session.postMessage("out");
  history.replaceState(null, "", "/");
  showDoor();
  form.elements.name.focus();
}

/** Whoever has no password can't come back, and so is asked. */
async function isMeant() {
  // Another tab may have set one.
  const user = (await whoAmI()) ?? me;
  const dialog = $("#leaving");
  if (!user || user.hasPassword) return true;
  if (dialog.open) return false;
  $("#leaving-name").textContent = user.name;
  $("#leaving-stay").onclick = () => dialog.close("");
  return (await ask(dialog)) === "ok";
}

$("#sign-out").addEventListener("click", () => signOut("/session"));
$("#sign-out-everywhere").addEventListener("click", () => signOut("/sessions"));
