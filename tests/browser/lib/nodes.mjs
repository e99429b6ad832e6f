// A site of several nodes, and what brings browsers to them.

import { connect, createServer } from "node:net";
import { once } from "node:events";

import { Engine, freePort } from "../../lib/engine.mjs";
import { Postgres } from "../../lib/postgres.mjs";
import { startServer } from "../../lib/server.mjs";
import { QUICK } from "./chess.mjs";

/** Nodes with a database and a NATS server of their own. */
export class Nodes {
  #settings;
  #postgres;
  #nodes = new Map();
  #balancers = [];

  /** `settings` are what each node is told, by the names of its environment variables. */
  constructor(settings = {}) {
    this.#settings = settings;
  }

  async start() {
    [this.#postgres, this.engine] = await Promise.all([Postgres.start(), Engine.start("nats")]);
    // One after the other: the first makes the tables.
    for (const name of ["a", "b"]) await this.startNode(name);
  }

  /** Starts a node, or starts it again at its old address. */
  async startNode(name) {
    const port = this.#nodes.get(name)?.port ?? (await freePort());
    const env = {
      PORT: String(port),
      DATABASE_URL: this.#postgres.url,
      PUBSUB: this.engine.url(),
      NODE: name,
      TRUSTED_PROXIES: "127.0.0.1",
      ...QUICK,
      ...this.#settings,
    };
    const server = await startServer("chess", { env, ready: /http:\/\/localhost:(\d+)/ });
    this.#nodes.set(name, { port, server });
  }

  node(name) {
    return this.#nodes.get(name).server;
  }

  /** The address of one node. */
  urlOf(name) {
    return `http://localhost:${this.#nodes.get(name).port}/`;
  }

  get url() {
    return this.urlOf("a");
  }

  /** A balancer that brings its clients to this node, as long as that answers. */
  async balancer(first) {
    const names = [first, ...[...this.#nodes.keys()].filter((name) => name !== first)];
    const balancer = await Balancer.to(() => names.map((name) => this.#nodes.get(name).port));
    this.#balancers.push(balancer);
    return balancer;
  }

  assertAlive() {
    for (const { server } of this.#nodes.values()) server.assertAlive();
  }

  async remove() {
    for (const balancer of this.#balancers) balancer.close();
    await Promise.all([...this.#nodes.values()].map(({ server }) => server.kill()));
    await Promise.all([this.engine?.kill(), this.#postgres?.kill()]);
  }
}

/** Passes connections on to one of several ports: the next one, if that refuses or never says a word. */
class Balancer {
  #server;
  #ports;
  #index = 0;
  #sockets = new Set();
  url;

  static async to(ports) {
    const balancer = new Balancer();
    balancer.#ports = ports;
    balancer.#server = createServer((near) => balancer.#accept(near)).listen(0, "127.0.0.1");
    await once(balancer.#server, "listening");
    balancer.url = `http://localhost:${balancer.#server.address().port}/`;
    return balancer;
  }

  async #accept(near) {
    this.#keep(near);
    const far = await this.#connect();
    if (!far || near.destroyed) return void (near.destroy(), far?.destroy());
    const chosen = this.#index;
    let hasAnswered = false;
    far.on("data", () => (hasAnswered = true));
    near.on("close", () => {
      if (!hasAnswered && this.#index === chosen) this.#index += 1;
      far.destroy();
    });
    far.on("close", () => near.destroy());
    near.pipe(far);
    far.pipe(near);
  }

  async #connect() {
    const ports = this.#ports();
    for (let tries = 0; tries < ports.length; tries += 1) {
      const far = connect(ports[this.#index % ports.length], "127.0.0.1");
      this.#keep(far);
      const isConnected = await once(far, "connect").then(() => true, () => false);
      if (isConnected) return far;
      this.#index += 1;
    }
    return null;
  }

  #keep(socket) {
    this.#sockets.add(socket);
    socket.on("error", () => {}).on("close", () => this.#sockets.delete(socket));
  }

  close() {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
