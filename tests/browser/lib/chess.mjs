// The server under test: the chess site, on a database of its own.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { startServer } from "../../lib/server.mjs";

/** What all sites of these tests are told: no limits, no bots, lists at once. */
export const QUICK = { MAX_NAMES: "0", MAX_OFFERS: "0", MAX_COMMANDS: "0", BOTS: "false", LIST_MS: "50" };

/** A site that can be ended and started again: its port and its database stay. */
export class Chess {
  #folder = mkdtempSync(join(tmpdir(), "chess-"));
  #settings;
  #server;
  #port = "0";

  /** `settings` are what the site is told, by the names of its environment variables. */
  constructor(settings = {}) {
    this.#settings = settings;
  }

  /** `more`: settings for this run alone. */
  async start(more = {}) {
    this.#server = await startServer("chess", {
      env: { PORT: this.#port, DATABASE_URL: join(this.#folder, "chess.db"), ...QUICK, ...this.#settings, ...more },
      ready: /http:\/\/localhost:(\d+)/,
    });
    this.#port = this.#server.readyLine[1];
  }

  get url() {
    return `http://localhost:${this.#port}/`;
  }

  assertAlive() {
    this.#server.assertAlive();
  }

  /** Stops the program where it is, and lets it go on. */
  pause() {
    this.#server.pause();
  }

  resume() {
    this.#server.resume();
  }

  async kill() {
    await this.#server?.kill();
  }

  async remove() {
    await this.kill();
    rmSync(this.#folder, { recursive: true });
  }
}
