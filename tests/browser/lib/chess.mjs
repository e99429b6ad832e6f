// The server under test: the chess site, on a database of its own.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { startServer } from "../../lib/server.mjs";

/** A site that can be ended and started again: its port and its database stay. */
export class Chess {
  #folder = mkdtempSync(join(tmpdir(), "chess-"));
  #server;
  #port = "0";

  /** `origin` is what the site is told of its address, if anything. */
  async start({ origin } = {}) {
    const told = origin === undefined ? {} : { ORIGIN: origin };
    this.#server = await startServer("chess", {
      env: { PORT: this.#port, DATABASE_URL: join(this.#folder, "chess.db"), BOTS: "false", MAX_NAMES: "0", ...told },
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

  async kill() {
    await this.#server?.kill();
  }

  async remove() {
    await this.kill();
    rmSync(this.#folder, { recursive: true });
  }
}
