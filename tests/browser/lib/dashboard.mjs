// Nodes of examples/rooms with their dashboards, people who visit the nodes, and operators who look.

import { once } from "node:events";
import { get } from "node:http";
import { fileURLToPath } from "node:url";

import WebSocket from "ws";

import { startProgram, startServer } from "../../lib/server.mjs";
import { DEADLINE, Signal } from "../../lib/until.mjs";

const CLIENT = fileURLToPath(new URL("client.mjs", import.meta.url));

/** A node with a dashboard, and with metrics for Prometheus. */
export class Node {
  #server;

  constructor(server) {
    this.#server = server;
    [, this.metricsAddress, this.dashboard, this.address] = server.readyLine;
  }

  static async start(name, { pubsub, linger = 0 }) {
    const listeners = ["--listen", "127.0.0.1:0", "--dashboard", "0", "--metrics", "0"];
    const options = [...listeners, "--pubsub", pubsub, "--node", name, "--linger", String(linger)];
    const ready = /^metrics and health on (\S+)\ndashboard on (\S+)\nlistening on (\S+:\d+)$/m;
    return new Node(await startServer("rooms", { options, ready }));
  }

  get url() {
    return `http://${this.address}/`;
  }

  /** What Prometheus is told now: a function of a metric and of labels, which adds up the series that have them. */
  async metrics() {
    const text = await (await fetch(`http://${this.metricsAddress}/metrics`)).text();
    const lines = [...text.matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)];
    return (metric, labels = {}) => {
      const isOf = ([, name, has = ""]) =>
        name === metric && Object.entries(labels).every(([label, value]) => has.includes(`${label}="${value}"`));
      const found = lines.filter(isOf);
      if (found.length === 0) throw new Error(`no ${metric} of ${JSON.stringify(labels)} in\n${text}`);
      return found.reduce((sum, [, , , value]) => sum + Number(value), 0);
    };
  }

  kill() {
    return this.#server.kill();
  }
}

/** A client in a process of its own, which sends a heartbeat each second. It can be stopped where it is. */
export function startClient(url, userId, topic) {
  return startProgram(process.execPath, { name: "client", options: [CLIENT, url, userId, topic], ready: /^joined$/m });
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

  /** Says that it is alive. */
  beat() {
    this.#socket.send(JSON.stringify([null, "0", "phoenix", "heartbeat", {}]));
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
  #sample = undefined;
  #samples = new Signal();

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
    page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => operator.#hears(payload)));
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(node.dashboard) && !url.startsWith("data:")) operator.errors.push(`asked for ${url}`);
    });
    await page.goto(node.dashboard);
    await page.locator("#connection[data-state=live]").waitFor();
    return operator;
  }

  #hears(frame) {
    const [, , , event, payload] = JSON.parse(frame);
    if (event !== "sample") return;
    this.#sample = payload;
    this.#samples.changed();
  }

  /** Resolves with the next sample that the page is sent, of all nodes. */
  nextSample() {
    const last = this.#sample;
    return this.#samples.until("a sample", () => this.#sample !== last && this.#sample);
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

  /** Resolves once the explanation says nothing like it. */
  untilNotSaid(pattern) {
    return this.page.locator("section[aria-label='The explanation']").filter({ hasNotText: pattern }).waitFor();
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
