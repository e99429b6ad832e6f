// The real servers that connect nodes: NATS and Redis, and a wire that can be cut.

import { once } from "node:events";
import { existsSync } from "node:fs";
import { createConnection, createServer } from "node:net";

import { startProgram } from "./server.mjs";

/** By the URL scheme of the adapter. */
const ENGINES = {
  nats: {
    program: "/usr/sbin/nats-server",
    options: (port) => ["--addr", "127.0.0.1", "--port", String(port)],
  },
  redis: {
    program: "/usr/bin/redis-server",
    options: (port) => ["--bind", "127.0.0.1", "--port", String(port), "--save", "", "--appendonly", "no"],
  },
};

/** A port that was free a moment ago. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** An engine that can be killed and started again on the same port. */
export class Engine {
  #kind;
  #server;

  constructor(kind, port) {
    this.#kind = kind;
    this.port = port;
  }

  static async start(kind) {
    const engine = new Engine(kind, await freePort());
    await engine.start();
    return engine;
  }

  async start() {
    const { program, options } = ENGINES[this.#kind];
    if (!existsSync(program)) throw new Error(`no ${program}: install it with \`make deps\``);
    this.#server = await startProgram(program, { options: options(this.port) });
    await answers(this.port);
  }

  /** How nodes reach it, through a wire if one is given. */
  url(port = this.port) {
    return `${this.#kind}://127.0.0.1:${port}`;
  }

  kill() {
    return this.#server.kill();
  }
}

/** A connection between a node and its engine that can be cut and mended. */
export class Wire {
  #ends = new Set();
  #server;
  #cut = false;

  static async to(port) {
    const wire = new Wire();
    wire.#server = createServer((near) => {
      if (wire.#cut) return near.destroy();
      const far = createConnection(port, "127.0.0.1");
      for (const [from, to] of [[near, far], [far, near]]) {
        wire.#ends.add(from);
        from.on("error", () => {}).on("close", () => {
          wire.#ends.delete(from);
          to.destroy();
        });
        from.pipe(to);
      }
    }).listen(0, "127.0.0.1");
    await once(wire.#server, "listening");
    wire.port = wire.#server.address().port;
    return wire;
  }

  cut() {
    this.#cut = true;
    for (const end of this.#ends) end.destroy();
  }

  mend() {
    this.#cut = false;
  }

  close() {
    this.cut();
    this.#server.close();
  }
}

/** Resolves once something listens on a port. */
async function answers(port) {
  for (;;) {
    const socket = createConnection(port, "127.0.0.1");
    const answered = await once(socket, "connect").then(() => true, () => false);
    socket.destroy();
    if (answered) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
