// The listener for operators: metrics and health over HTTP, up to the end of the server.

import assert from "node:assert/strict";
import { once } from "node:events";
import { get } from "node:http";
import { after, before, describe, test } from "node:test";

import { startServer } from "../lib/server.mjs";
import { Client } from "./lib/client.mjs";

describe("the listener for operators", () => {
  let server;
  let operations;
  let site;

  before(async () => {
    const options = ["--listen", "127.0.0.1:0", "--metrics", "0", "--drain-delay", "600000"];
    const ready = /^metrics and health on (\S+:\d+)$[^]*^listening on (\S+:\d+)$/m;
    server = await startServer("rooms", { options, ready });
    [, operations, site] = server.readyLine;
  });
  after(() => server.kill());

  /** Asks for a path; resolves with its status and text. */
  const ask = async (path, headers = {}) => {
    const [response] = await once(get(`http://${operations}${path}`, { headers }), "response");
    let text = "";
    for await (const chunk of response.setEncoding("utf8")) text += chunk;
    return { status: response.statusCode, text };
  };

  test("answers on this machine's names alone", async () => {
    assert.deepEqual(await ask("/health/live"), { status: 200, text: "alive\n" });
    assert.deepEqual(await ask("/health/ready"), { status: 200, text: "ready\n" });
    const { status, text } = await ask("/metrics");
    assert.equal(status, 200);
    assert.match(text, /^adsum_ready\{[^}]*\} 1$/m);
    for (const path of ["/metrics", "/health/live", "/health/ready"]) {
      assert.equal((await ask(path, { host: "evil.example" })).status, 421, path);
    }
  });

  test("says no during the drain's delay, while clients are served as before", async () => {
    const client = new Client(`ws://${site}/socket`, "ann");
    const room = await client.join("room:last");
    const ended = server.stop();
    await server.untilError(/told to end/);
    const { status, text } = await ask("/health/ready");
    assert.equal(status, 503);
    assert.match(text, /end/);
    assert.equal((await ask("/health/live")).status, 200);
    assert.match((await ask("/metrics")).text, /^adsum_ready\{[^}]*\} 0$/m);
    assert.equal((await room.push("echo", {})).status, "ok");
    const late = new Client(`ws://${site}/socket`, "late");
    await (await late.join("room:last")).untilCounts({ ann: 1, late: 1 });
    await Promise.all([client.close(), late.close()]);
    await server.kill();
    await ended;
  });
});
