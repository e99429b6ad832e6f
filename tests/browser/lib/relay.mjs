// A network between a browser and the site, which can fail as networks do: without a word.

import { once } from "node:events";
import { connect, createServer } from "node:net";

export class Relay {
  #server;
  #pairs = new Set();
  #isSilent = false;
  url;

  static async to(target) {
    const relay = new Relay();
    relay.#server = createServer((near) => relay.#accept(near, Number(new URL(target).port)));
    relay.#server.listen(0, "127.0.0.1");
    await once(relay.#server, "listening");
    relay.url = `http://localhost:${relay.#server.address().port}/`;
    return relay;
  }

  #accept(near, port) {
    const pair = { near, far: null };
    this.#pairs.add(pair);
    near.on("error", () => {});
    near.on("close", () => {
      this.#pairs.delete(pair);
      pair.far?.destroy();
    });
    // On a dead network a connection is never made.
    if (this.#isSilent) return near.pause();
    pair.far = connect(port, "127.0.0.1");
    pair.far.on("error", () => {});
    // The last words of the other end may still be on their way.
    pair.far.on("end", () => this.#isSilent || near.end());
    pair.far.on("close", () => this.#isSilent || near.end());
    near.on("data", (bytes) => this.#isSilent || pair.far.write(bytes));
    pair.far.on("data", (bytes) => this.#isSilent || near.write(bytes));
  }

  /** From now on nothing gets through, and nobody is told. */
  silence() {
    this.#isSilent = true;
  }

  /** The network is back. Connections of before are gone. */
  restore() {
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far?.destroy();
    }
    this.#pairs.clear();
    this.#isSilent = false;
  }

  close() {
    this.restore();
    this.#server.close();
  }
}
