// Recorded long poll of a real Phoenix, played against `rooms`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Comparison } from "./lib/compare.mjs";
import { parseExchanges } from "./lib/exchanges.mjs";
import { startRooms } from "./lib/rooms.mjs";

/** Sections that differ on purpose; docs/differences.md has the reasons. */
const DIFFERS = {
  "14. POST malformed JSON": { status: 400 },
  "16b. V1 POST join": { status: 200, body: '{"status":200}' },
  // The join that Phoenix could not read is answered here.
  "16c. V1 poll": { messages: ["phx_reply", "presence_diff", "presence_state"] },
};

/** The headers that a client looks at. */
const COMPARED = ["access-control-allow-origin", "access-control-allow-headers", "access-control-allow-methods", "access-control-max-age", "content-type"];

const exchanges = parseExchanges(readFileSync(new URL("recorded/phoenix-longpoll.txt", import.meta.url), "utf8"));

test("the sections named here are in the recording", () => {
  for (const title of Object.keys(DIFFERS)) assert(exchanges.some((exchange) => exchange.title === title), title);
});

test("recorded long poll at diff interval 0", async (t) => {
  // Phoenix's window is 10 s. Here only the order of things is of interest, not how long nothing comes.
  const rooms = await startRooms({ diffInterval: 0, longpollWindow: 300 });
  t.after(() => rooms.kill());
  const comparison = new Comparison();
  /** The recorded tokens, and what stands for them. */
  const tokens = new Map();
  const ours = (text) => [...tokens].reduce((replaced, [recorded, actual]) => replaced.replaceAll(recorded, actual), text);

  async function send({ method, path, headers, body }) {
    const hasBody = method === "POST" || method === "PUT";
    const response = await fetch(rooms.origin + ours(path), { method, headers, body: hasBody ? body : undefined });
    return { status: response.status, headers: response.headers, body: await response.text() };
  }

  /** Polls until as many messages have come as were recorded: they may take more than one answer. */
  async function poll(request, wanted) {
    const first = await send(request);
    const answer = JSON.parse(first.body);
    while (answer.status === 200 && answer.messages.length < wanted) {
      const { status, messages } = JSON.parse((await send(request)).body);
      assert.equal(status, 200, `${answer.messages.length} messages instead of ${wanted}: ${answer.messages}`);
      answer.messages.push(...messages);
    }
    return { ...first, answer };
  }

  for (const { title, request, response } of exchanges) {
    const passed = await t.test(title, async () => {
      const { status = response.status, body = response.body, messages: events } = DIFFERS[title] ?? {};
      if (request.method !== "GET" || events !== undefined) {
        const actual = events ? await poll(request, events.length) : await send(request);
        assert.equal(actual.status, status);
        if (events) assert.deepEqual(actual.answer.messages.map((text) => JSON.parse(text).event), events);
        else if (status === 200) assert.equal(actual.body, body);
        if (status === 200 && !events) compareHeaders(response.headers, actual.headers);
        return;
      }
      const recorded = JSON.parse(body);
      const { answer, ...actual } = await poll(request, recorded.messages?.length ?? 0);
      assert.equal(actual.status, status);
      compareHeaders(response.headers, actual.headers);
      assert.deepEqual([answer.status, answer.messages?.length], [recorded.status, recorded.messages?.length], actual.body);
      recorded.messages?.forEach((text, index) => comparison.text(text, answer.messages[index]));
      if (recorded.token === undefined || tokens.has(recorded.token)) {
        assert.equal(answer.token, tokens.get(recorded.token));
      } else {
        assert.equal(typeof answer.token, "string");
        tokens.set(recorded.token, answer.token);
      }
    }).then(() => true, () => false);
    if (!passed) return;
  }
  rooms.assertAlive();
});

function compareHeaders(recorded, actual) {
  for (const name of COMPARED) {
    if (recorded[name] !== undefined) assert.equal(actual.get(name), recorded[name], name);
  }
}
