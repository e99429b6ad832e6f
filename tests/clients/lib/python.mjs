// Clients in Python: one program runs all clients of one library, and is spoken to in lines of JSON.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { follow, STRICT_PRESENCE } from "./phoenix.mjs";
import { Room } from "./room.mjs";

const here = (path) => fileURLToPath(new URL(`../${path}`, import.meta.url));

export const PYTHON_CLIENTS = [
  {
    name: "phxsocket 0.1.5",
    server: "rooms",
    library: "phxsocket",
    comparesRefs: false,
    lacks: {
      leave: "its Channel.leave() calls what doesn't exist",
      reconnect: "it doesn't connect again",
    },
  },
  {
    name: "phx-events 0.4.1",
    server: "rooms",
    library: "phx_events",
    comparesRefs: false,
    lacks: {
      echo: "it can only join and listen",
      say: "it can only join and listen",
      update: "it can only join and listen",
      leave: "it can only join and listen",
      reconnect: "it doesn't connect again",
    },
  },
  {
    name: "realtime 2.34.1",
    server: "supabase",
    library: "realtime",
    comparesRefs: true,
    lacks: {
      echo: "it sends broadcasts and presences only",
      answers: "what it sends is not answered to the program",
    },
  },
].map((client) => ({
  ...client,
  /** Starts the program that the clients run in. */
  start: () => Program.start(client.library),
  connect: (url, user, program) => program.connect(url, user),
}));

class Program {
  #child;
  #waiting = new Map();
  #rooms = new Map();
  #number = 0;

  static async start(library) {
    // The Makefile installs there what requirements/ names.
    const python = here(`python/venv-${library}/bin/python`);
    if (!existsSync(python)) throw new Error(`there is no ${python}: run \`make python-clients\``);
    return new Program(spawn(python, [here("python/driver.py"), library], { stdio: ["pipe", "pipe", "inherit"] }));
  }

  constructor(child) {
    this.#child = child;
    createInterface({ input: child.stdout }).on("line", (line) => this.#told(JSON.parse(line)));
    child.on("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the driver ended: ${signal ?? code}`));
    });
  }

  #told({ id, result, error, client, topic, event, payload }) {
    if (id === undefined) return this.#rooms.get(`${client} ${topic}`)?.(event, payload);
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  }

  /** Has a client do something, and resolves with what came of it. */
  ask(what, args) {
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.stdin.write(`${JSON.stringify({ id, do: what, ...args })}\n`);
    });
  }

  /** Tells of what a client sees in a topic. */
  watch(client, topic, handle) {
    this.#rooms.set(`${client} ${topic}`, handle);
  }

  async connect(url, user) {
    const client = ++this.#number;
    await this.ask("connect", { client, url, user });
    return new Client(this, client);
  }

  async end() {
    const gone = once(this.#child, "exit");
    this.#child.stdin.end();
    await gone;
  }
}

class Client {
  #program;
  #client;

  constructor(program, client) {
    this.#program = program;
    this.#client = client;
  }

  async join(name) {
    const room = new Room();
    const handlers = {};
    follow((event, handle) => (handlers[event] = handle), STRICT_PRESENCE, room);
    // The list that the library itself has made of states and diffs.
    handlers.here = (state) => room.see(state);
    handlers.shout = (payload) => room.hear(payload);
    this.#program.watch(this.#client, name, (event, payload) => handlers[event](payload));
    const ask = (what) => (payload) => this.#program.ask(what, { client: this.#client, topic: name, payload });
    for (const what of ["echo", "fail", "say", "update", "leave"]) room[what] = ask(what);
    room.answer = await ask("join")();
    return room;
  }

  close() {
    return this.#program.ask("close", { client: this.#client });
  }
}
