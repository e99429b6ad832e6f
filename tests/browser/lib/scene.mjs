// A site, and people who visit it with browsers.

import { mkdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

import { DEADLINE } from "../../lib/until.mjs";
import { Chess } from "./chess.mjs";
import { Nodes } from "./nodes.mjs";
import { Relay } from "./relay.mjs";
import { Tab } from "./tab.mjs";

/** How the page's console begins to tell of something that the content security policy forbids. */
const VIOLATION = "violates the policy:";

const SCREENSHOTS = fileURLToPath(new URL("../screenshots/", import.meta.url));

/** Chromium; the `whole` of it has what is around a page, such as the memory of those that were left. */
export function launchBrowser({ whole = false, ...options } = {}) {
  const shell = process.env.CHROMIUM ?? "/usr/bin/chromium-headless-shell";
  return chromium.launch({
    ...options,
    executablePath: whole ? (process.env.WHOLE_CHROMIUM ?? "/usr/bin/chromium") : shell,
    args: [
      "--no-sandbox", // Chromium refuses to run as root with it
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A test on a site of its own, told these `settings`. If it fails, every open page is photographed. */
export function scene(title, browser, play, settings) {
  sceneOn(title, browser, play, () => new Chess(settings));
}

/** A test on a site of two nodes, `a` and `b`. */
export function sceneOfNodes(title, browser, play, settings) {
  sceneOn(title, browser, play, () => new Nodes(settings));
}

function sceneOn(title, browser, play, site) {
  test(title, async () => {
    const stage = new Scene(browser(), site());
    try {
      await stage.chess.start();
      await play(stage);
      stage.chess.assertAlive();
      stage.assertNoErrors();
    } catch (error) {
      await stage.photograph(title);
      throw error;
    } finally {
      await stage.end();
    }
  });
}

export class Scene {
  #browser;
  #people = [];
  #relays = [];

  constructor(browser, chess) {
    this.#browser = browser;
    this.chess = chess;
  }

  /** Somebody new, with a browser of their own, at the door. With a `relay` they reach the site by that alone. */
  async visitor({ relay, browser = this.#browser, ...options } = {}) {
    const context = await browser.newContext(options);
    const person = new Person(context, relay ?? this.chess);
    this.#people.push(person);
    return person.open();
  }

  /** A network that can fail. */
  async relay() {
    const relay = await Relay.to(this.chess.url);
    this.#relays.push(relay);
    return relay;
  }

  /**
   * Alice (white) and Bob (black), or two of other `names`, at the board. `terms`: `initial_ms`, `increment_ms`; `alice`
   * and `bob`: options of their browsers.
   */
  async table({ initial_ms = 300_000, increment_ms = 0, names = ["Alice", "Bob"], alice: aliceOptions, bob: bobOptions } = {}) {
    const alice = await this.guest(names[0], aliceOptions);
    const bob = await this.guest(names[1], bobOptions);
    await this.seat(alice, bob, { initial_ms, increment_ms });
    return [alice, bob];
  }

  /** Begins a game of two who are in the lobby. */
  async seat(white, black, { initial_ms = 300_000, increment_ms = 0 } = {}) {
    const to = (await black.me()).id;
    const { ok: invite } = await white.ask("invite", { to, color: "white", initial_ms, increment_ms });
    const { ok: started } = await black.ask("accept", { id: invite.id });
    for (const tab of [white, black]) await tab.untilAtGame(started.game);
    return started.game;
  }

  /** Somebody new who has chosen a name. */
  async guest(name, options) {
    const tab = await this.visitor(options);
    await tab.choose(name);
    await tab.untilInLobby();
    return tab;
  }

  assertNoErrors() {
    const errors = new Set(this.#people.flatMap(({ errors }) => errors));
    if (errors.size > 0) throw new Error(`pages failed: ${[...errors].join("; ")}`);
  }

  async photograph(title) {
    mkdirSync(SCREENSHOTS, { recursive: true });
    const name = title.replace(/[^a-z0-9]+/gi, "-");
    const pages = this.#people.flatMap(({ tabs }) => tabs).filter(({ page }) => !page.isClosed());
    for (const [index, { page }] of pages.entries()) {
      // The picture helps; that it could not be taken must not hide why the test failed.
      await page.screenshot({ path: `${SCREENSHOTS}${name}-${index + 1}.png` }).catch(() => {});
    }
  }

  async end() {
    for (const relay of this.#relays) relay.close();
    await Promise.all(this.#people.map(({ context }) => context.close()));
    await this.chess.remove();
  }
}

/** A browser profile: its tabs share a session. */
class Person {
  tabs = [];
  /** What went wrong in a page: errors of its scripts, dialogs, what its policy forbids, what it should not ask for. */
  errors = [];

  constructor(context, site) {
    this.context = context;
    this.site = site;
    context.setDefaultTimeout(DEADLINE);
  }

  /** `url`: where the site is for this tab. */
  async open(url = this.site.url) {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => this.errors.push(error.message));
    page.on("dialog", async (dialog) => {
      this.errors.push(`a dialog: ${dialog.message()}`);
      await dialog.dismiss();
    });
    page.on("console", (message) => {
      if (message.text().startsWith(VIOLATION)) this.errors.push(message.text());
    });
    page.on("request", (request) => this.#check(request.url()));
    await page.addInitScript((violation) => {
      document.addEventListener("securitypolicyviolation", ({ violatedDirective, sourceFile, lineNumber }) => {
        console.error(`${violation} ${violatedDirective}, by ${sourceFile}:${lineNumber}`);
      });
    }, VIOLATION);
    await page.goto(url);
    const tab = new Tab(page, this);
    this.tabs.push(tab);
    return tab;
  }

  /** A page asks its own site alone, and for nothing that isn't ours to give: pieces and markers of the board's package. */
  #check(url) {
    const { hostname, pathname } = new URL(url);
    const isOurs = hostname === "localhost" || url.startsWith("data:");
    if (!isOurs || /assets|markers|standard|staunty/.test(pathname)) this.errors.push(`the page asked for ${url}`);
  }
}
