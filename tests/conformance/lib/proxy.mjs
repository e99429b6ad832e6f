// Real proxies, with the configurations that docs/mounting.md recommends.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { startProgram } from "../../lib/server.mjs";
import { freePort } from "../../lib/engine.mjs";

// Started by root, nginx would have its workers be somebody who may not write into our folder.
const workers = process.getuid() === 0 ? "user root;" : "";

/** By the name of the file in docs/proxies. */
const PROXIES = {
  "nginx.conf": {
    program: "/usr/sbin/nginx",
    // Where it may write: everything else is the sample's own.
    prepare: (text, folder) =>
      text.replace(
        "http {",
        "http { access_log off; " +
          ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(" "),
      ),
    options: (file, folder) => ["-c", file, "-p", folder, "-e", "stderr", "-g", `daemon off; pid ${folder}/pid; ${workers}`],
  },
  "haproxy.cfg": {
    program: "/usr/sbin/haproxy",
    prepare: (text) => text,
    options: (file) => ["-db", "-f", file],
  },
};

/** Starts a proxy in front of two nodes, given as `host:port`. */
export async function startProxy(sample, nodes) {
  const { program, prepare, options } = PROXIES[sample];
  if (!existsSync(program)) throw new Error(`no ${program}: install it with \`make deps\``);
  const folder = mkdtempSync(join(tmpdir(), "adsum-proxy-"));
  const port = await freePort();
  let text = readFileSync(fileURLToPath(new URL(`../../../docs/proxies/${sample}`, import.meta.url)), "utf8");
  for (const [from, to] of [["127.0.0.1:4101", nodes[0]], ["127.0.0.1:4102", nodes[1]], ["127.0.0.1:8080", `127.0.0.1:${port}`]]) {
    if (text.split(from).length !== 2) throw new Error(`${sample} names ${from} not once`);
    text = text.replace(from, to);
  }
  const file = join(folder, sample);
  writeFileSync(file, prepare(text, folder));
  const server = await startProgram(program, { options: options(file, folder) });
  await listens(port, server);
  return {
    url: `ws://127.0.0.1:${port}/socket`,
    origin: `http://127.0.0.1:${port}`,
    async kill() {
      // nginx's workers end with their master only if that is asked to.
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function listens(port, server) {
  for (;;) {
    server.assertAlive();
    const socket = createConnection(port, "127.0.0.1");
    const connected = await once(socket, "connect").then(() => true, () => false);
    socket.destroy();
    if (connected) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
