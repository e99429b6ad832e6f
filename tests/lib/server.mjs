// A server under test: starts a program of this workspace, waits until it is ready, and ends it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { Signal } from "./until.mjs";

/** Starts the program of that name and resolves when a line of its output has matched `ready`. */
export async function startServer(name, { options = [], env = {}, ready }) {
  const program =
    process.env[`${name.toUpperCase()}_BIN`] ?? fileURLToPath(new URL(`../../target/debug/${name}`, import.meta.url));
  if (!existsSync(program)) throw new Error(`no server at ${program}: build it with \`cargo build -p ${name}\``);
  return startProgram(program, { name, options, env, ready });
}

/** Starts any program; without a `ready` it is so at once. */
export async function startProgram(program, { name = program, options = [], env = {}, ready }) {
  const child = spawn(program, options, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const server = new Server(name, child);
  if (ready !== undefined) await server.ready(ready);
  return server;
}

class Server {
  #name;
  #child;
  #changes = new Signal();
  #output = "";
  #errors = "";
  #exit = undefined;
  /** The match of the line that said that it is ready. */
  readyLine = undefined;

  constructor(name, child) {
    this.#name = name;
    this.#child = child;
    child.stdout.setEncoding("utf8").on("data", (text) => {
      // Its first lines are all that is asked for.
      if (this.readyLine === undefined) this.#output += text;
      this.#changes.changed();
    });
    // Kept for the errors of a failing test; a server that panics on purpose would fill the report.
    child.stderr.setEncoding("utf8").on("data", (text) => {
      this.#errors = (this.#errors + text).slice(-4_000);
      this.#changes.changed();
    });
    child.on("error", (error) => this.#ended(error.message));
    child.on("exit", (code, signal) => this.#ended(signal ?? `exit code ${code}`));
  }

  #ended(how) {
    this.#exit ??= how;
    this.#changes.changed();
  }

  async ready(pattern) {
    const find = () => {
      this.assertAlive();
      return pattern.exec(this.#output);
    };
    try {
      this.readyLine = await this.#changes.until(`a line like ${pattern}`, find, { state: () => this.#output });
    } catch (error) {
      await this.kill();
      throw error;
    }
  }

  /** Throws if the server has ended, with the last of what it wrote to stderr. */
  assertAlive() {
    if (this.#exit !== undefined) throw new Error(`${this.#name} ended: ${this.#exit}\n${this.#errors}`);
  }

  /** Resolves once the server has written something like `pattern` to stderr. */
  untilError(pattern) {
    return this.#changes.until(`an error like ${pattern}`, () => pattern.exec(this.#errors), { state: () => this.#errors });
  }

  /** Stops the server where it is, as a machine that sleeps does, and lets it go on. */
  pause() {
    this.#child.kill("SIGSTOP");
  }

  resume() {
    this.#child.kill("SIGCONT");
  }

  /** Ends the server at once, as a power cut would, and resolves when it is gone. */
  kill() {
    return this.#end("SIGKILL");
  }

  /** Asks the server to end, as a deploy does, and resolves when it is gone. */
  stop() {
    return this.#end("SIGTERM");
  }

  async #end(signal) {
    if (this.#exit !== undefined) return;
    const gone = once(this.#child, "exit");
    this.#child.kill(signal);
    await gone;
  }
}
