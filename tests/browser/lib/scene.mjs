// A site, and people who visit it with browsers.

import { mkdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";

import { chromium } from "playwright-core";

import { DEADLINE } from "../../lib/until.mjs";
import { Chess } from "./chess.mjs";

const SCREENSHOTS = fileURLToPath(new URL("../screenshots/", import.meta.url));

export function launchBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
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

/** A test on a site of its own. If it fails, every open page is photographed. */
export function scene(title, browser, play) {
  test(title, async () => {
    const stage = new Scene(browser());
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

class Scene {
  #browser;
  #people = [];
  chess = new Chess();

  constructor(browser) {
    this.#browser = browser;
  }

  /** Somebody new, with a browser of their own, at the door. */
  async visitor(options) {
    const context = await this.#browser.newContext(options);
    const person = new Person(context, this.chess);
    this.#people.push(person);
    return person.open();
  }

  /** Somebody new who has chosen a name. */
  async guest(name, options) {
    const tab = await this.visitor(options);
    await tab.choose(name);
    await tab.untilInLobby();
    return tab;
  }

  assertNoErrors() {
    const errors = this.#people.flatMap(({ errors }) => errors);
    if (errors.length > 0) throw new Error(`pages failed: ${errors.join("; ")}`);
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
    await Promise.all(this.#people.map(({ context }) => context.close()));
    await this.chess.remove();
  }
}

/** A browser profile: its tabs share a session. */
class Person {
  tabs = [];
  /** What went wrong in a page: errors of its scripts, and dialogs, for the site has none. */
  errors = [];

  constructor(context, chess) {
    this.context = context;
    this.chess = chess;
    context.setDefaultTimeout(DEADLINE);
  }

  async open() {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => this.errors.push(error.message));
    page.on("dialog", async (dialog) => {
      this.errors.push(`a dialog: ${dialog.message()}`);
      await dialog.dismiss();
    });
    await page.goto(this.chess.url);
    const tab = new Tab(page, this);
    this.tabs.push(tab);
    return tab;
  }
}

class Tab {
  constructor(page, person) {
    this.page = page;
    this.person = person;
  }

  /** Another tab of the same browser. */
  another() {
    return this.person.open();
  }

  /** Types a name at the door and sends it. */
  async choose(name) {
    const input = this.page.locator("#name-form input[name=name]");
    await input.fill(name);
    await input.press("Enter");
  }

  /** The door's complaint about the name. */
  async untilRefused() {
    await this.page.locator("#name-error").filter({ hasText: /\S/ }).waitFor();
    return this.page.locator("#name-error").innerText();
  }

  untilInLobby() {
    return this.page.locator("[data-test=person]").first().waitFor();
  }

  untilAtDoor() {
    return this.page.locator("#name-form").waitFor();
  }

  /** `online`, `lost` or `refused`. */
  untilConnection(state) {
    return this.page.locator(`[data-test=connection][data-state=${state}]`).waitFor({ state: "attached" });
  }

  /** Everyone in the list, as a reader sees them: `{ name: "status" }`, or `"status, 2 tabs"`. */
  async people() {
    const rows = await this.page.locator("[data-test=person]").evaluateAll((elements) =>
      elements.map((element) => {
        const text = (part) => element.querySelector(`[data-test=${part}]`)?.innerText.trim() ?? "";
        return [text("name"), [text("status"), text("tabs")].filter(Boolean).join(", ")];
      }),
    );
    const people = Object.fromEntries(rows);
    if (Object.keys(people).length !== rows.length) throw new Error(`somebody is listed twice: ${JSON.stringify(rows)}`);
    return people;
  }

  /** Resolves once the list says just this of everyone. */
  async untilPeople(expected) {
    const deadline = Date.now() + DEADLINE;
    for (;;) {
      const people = await this.people();
      if (isDeepStrictEqual(people, { ...expected })) return;
      if (Date.now() > deadline) {
        throw new Error(`expected ${JSON.stringify(expected)}, seen ${JSON.stringify(people)}`);
      }
      await this.#nextPaint();
    }
  }

  /** Lists change by live messages; each is shown by a paint. */
  #nextPaint() {
    return this.page.evaluate(() => new Promise(requestAnimationFrame));
  }

  /** Hides or shows the tab, as the browser would tell the page when another tab is chosen. */
  async setVisibility(state) {
    await this.page.evaluate((visibility) => {
      Object.defineProperty(document, "visibilityState", { configurable: true, get: () => visibility });
      Object.defineProperty(document, "hidden", { configurable: true, get: () => visibility === "hidden" });
      document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
    }, state);
  }

  reload() {
    return this.page.reload();
  }

  close() {
    return this.page.close({ runBeforeUnload: false });
  }
}
