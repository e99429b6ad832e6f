// Nodes of examples/rooms with their dashboards, people who visit the nodes, and operators who look.

import { once } from "node:events";
import { get } from "node:http";

import WebSocket from "ws";

import { startServer } from "../../lib/server.mjs";
import { DEADLINE, Signal } from "../../lib/until.mjs";

/** A node with a dashboard. */
export class Node {
  #server;

  constructor(server) {
    this.#server = server;
    [, this.dashboard, this.address] = server.readyLine;
  }

  static async start(name, { pubsub, linger = 0 }) {
    const options = ["--listen", "127.0.0.1:0", "--dashboard", "0", "--pubsub", pubsub, "--node", name, "--linger", String(linger)];
    const ready = /^dashboard on (\S+)\nlistening on (\S+:\d+)$/m;
    return new Node(await startServer("rooms", { options, ready }));
  }

  get url() {
    return `http://${this.address}/`;
  }

  kill() {
    return this.#server.kill();
  }
}

/** Somebody in a room, by a bare WebSocket, who does nothing by themselves: no heartbeat, no second attempt. */
export class Visitor {
  #socket;
  #events = new Set();
  #changes = new Signal();
  #code = undefined;

  /** Joins `topic` on the server at `url`, which may be a relay, and resolves once the state has come. */
  static async join(url, userId, topic) {
    const visitor = new Visitor();
    const { host } = new URL(url);
    const socket = new WebSocket(`ws://${host}/socket/websocket?vsn=2.0.0&user_id=${userId}`);
    visitor.#socket = socket;
    socket.on("message", (text) => {
      visitor.#events.add(JSON.parse(text)[3]);
      visitor.#changes.changed();
    });
    socket.on("close", (code) => {
      visitor.#code = code;
      visitor.#changes.changed();
    });
    socket.on("error", () => {});
    await once(socket, "open");
    visitor.push(topic, "phx_join");
    await visitor.untilEvent("presence_state");
    return visitor;
  }

  push(topic, event, payload = {}) {
    this.#socket.send(JSON.stringify(["1", "1", topic, event, payload]));
  }

  untilEvent(event) {
    return this.#changes.until(event, () => this.#events.has(event));
  }

  untilClosed(code) {
    return this.#changes.until(`a close with ${code}`, () => this.#code === code, { state: () => this.#code });
  }

  /** Ends the connection without a word, as a lost network does. */
  vanish() {
    this.#socket.terminate();
  }
}

/** Somebody who looks at the dashboard of a node. */
export class Operator {
  /** What went wrong in the page: errors of its scripts, what its policy forbids, what it should not ask for. */
  errors = [];

  static async open(browser, node, options = {}) {
    const operator = new Operator();
    operator.context = await browser.newContext(options);
    operator.context.setDefaultTimeout(DEADLINE);
    const page = await operator.context.newPage();
    operator.page = page;
    page.on("pageerror", (error) => operator.errors.push(error.message));
    page.on("console", (message) => {
      if (message.type() === "error") operator.errors.push(message.text());
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(node.dashboard) && !url.startsWith("data:")) operator.errors.push(`asked for ${url}`);
    });
    await page.goto(node.dashboard);
    await page.locator("#connection[data-state=live]").waitFor();
    return operator;
  }

  /** Chooses a view by its name in the navigation. */
  async choose(view) {
    await this.page.locator("nav a", { hasText: view }).click();
    await this.page.locator("h2", { hasText: view }).waitFor();
  }

  /** Fills in the form, and sends it by a key. */
  async explain(topic, key) {
    await this.choose("Explain");
    await this.page.locator("#topic").fill(topic);
    await this.page.locator("#key").fill(key);
    await this.page.locator("#key").press("Enter");
  }

  /** Resolves once the explanation says something like it. */
  untilSaid(pattern) {
    return this.page.locator("section[aria-label='The explanation']").filter({ hasText: pattern }).waitFor();
  }

  close() {
    return this.context.close();
  }
}

/** Asks for the page with these headers, which a browser would not send. */
export async function request(port, headers) {
  const [response] = await once(get({ host: "127.0.0.1", port, path: "/", headers }), "response");
  response.resume();
  return response;
}
