// A PostgreSQL server of the tests' own, whose data are gone with it.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { freePort } from "./engine.mjs";
import { startProgram } from "./server.mjs";

const DEBIAN = "/usr/lib/postgresql";

export class Postgres {
  #server;
  #folder;

  static async start() {
    const postgres = new Postgres();
    await postgres.#start();
    return postgres;
  }

  async #start() {
    const bin = programs();
    this.#folder = mkdtempSync(join(tmpdir(), "chess-postgres-"));
    const data = join(this.#folder, "data");
    // Neither program runs as root.
    const asUser = process.getuid() === 0 ? ["runuser", "-u", "postgres", "--"] : [];
    if (asUser.length > 0) execFileSync("chown", ["postgres", this.#folder]);
    const run = (program, options) => {
      const [first, ...rest] = [...asUser, join(bin, program), ...options];
      return [first, rest];
    };
    const init = ["--no-sync", "--auth=trust", "--username=postgres", `--pgdata=${data}`];
    execFileSync(...run("initdb", init), { cwd: "/", stdio: "ignore" });
    const port = await freePort();
    const settings = { listen_addresses: "127.0.0.1", unix_socket_directories: "", fsync: "off", max_connections: "100" };
    const set = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const [program, options] = run("postgres", ["-D", data, "-p", String(port), ...set]);
    this.#server = await startProgram(program, { name: "postgres", options });
    // Once it takes questions.
    await this.#server.untilError(/ready to accept connections/);
    this.url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  }

  async kill() {
    // `runuser` passes the signal on, and the server ends at once, with all that it has started.
    await this.#server?.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** The folder of the newest version, from Debian or elsewhere. */
function programs() {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).map((version) => join(DEBIAN, version, "bin")) : [];
  const found = [...versions.sort().reverse(), "/usr/bin"].find((folder) => existsSync(join(folder, "initdb")));
  if (!found) throw new Error("no PostgreSQL: install it with `make deps`");
  return found;
}
