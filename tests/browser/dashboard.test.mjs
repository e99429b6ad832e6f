// The dashboard, as somebody uses it who has never seen it: why is this user shown as online, or not?

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";

import { Engine } from "../lib/engine.mjs";
import { DEADLINE } from "../lib/until.mjs";
import { findings, tooWide } from "./lib/axe.mjs";
import { Node, Operator, Visitor, request, startClient } from "./lib/dashboard.mjs";
import { launchBrowser } from "./lib/scene.mjs";

const ROOM = "room:lobby";
const SCREENSHOTS = fileURLToPath(new URL("screenshots/", import.meta.url));

let browser;
let engine;
let one;
let two;
const operators = [];

before(async () => {
  [browser, engine] = await Promise.all([launchBrowser(), Engine.start("nats")]);
});
after(() => Promise.all([browser?.close(), engine?.kill()]));
beforeEach(async () => {
  const pubsub = engine.url();
  [one, two] = await Promise.all([Node.start("one", { pubsub, linger: 60_000 }), Node.start("two", { pubsub })]);
});
afterEach(async () => {
  await Promise.all(operators.splice(0).map((operator) => operator.close()));
  await Promise.all([one.kill(), two.kill()]);
});

async function look(node, options) {
  const operator = await Operator.open(browser, node, options);
  operators.push(operator);
  return operator;
}

/** Takes a picture for people, if somebody wants it: SHOTS=1. */
async function photograph({ page }, name) {
  if (process.env.SHOTS === undefined) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: `${SCREENSHOTS}dashboard-${name}.png`, fullPage: true });
}

test("a newcomer learns why each of four people is shown as online, or isn't", async () => {
  const sleeper = await startClient(one.url, "asleep", ROOM);
  try {
    const crashing = await Visitor.join(two.url, "crashed", ROOM);
    await Visitor.join(two.url, "killed", ROOM);
    const lingering = await Visitor.join(one.url, "lingering", ROOM);
    const operator = await look(one);

    // Thrown out by a crash of the channel.
    crashing.push(ROOM, "crash");
    await operator.explain(ROOM, "crashed");
    await operator.untilSaid('one doesn\'t show "crashed" in "room:lobby".');
    await operator.untilSaid("crashed: its channel or task failed on two");
    await photograph(operator, "crashed");

    // Shown as online, as the node waits for the client to come back.
    lingering.vanish();
    await operator.explain(ROOM, "lingering");
    await operator.untilSaid(/Its socket was lost.* It lingers for another \d+ s, so that its client can come back/);
    await photograph(operator, "lingering");

    // Shown as online, but the client sleeps.
    sleeper.pause();
    await operator.explain(ROOM, "asleep");
    await operator.untilSaid(/Its client has been silent for [\d.]+ s: it has nothing to say, is asleep, or its network is gone/);
    await operator.untilSaid(/The server closes the socket if it stays silent for another \d+ s/);
    await photograph(operator, "asleep");
    sleeper.resume();
    await operator.untilNotSaid("Its client has been silent");
    await operator.untilSaid(/Its client was last heard ([01](\.\d)? s|a moment) ago/);

    // Shown as online for a moment, though the node was killed.
    await operator.explain(ROOM, "killed");
    await operator.untilSaid('one shows "killed" in "room:lobby", by one presence.');
    await two.kill();
    await operator.untilSaid(/two has not been heard for [\d.]+ s/);
    await operator.untilSaid(/unreachable: two silent for [\d.]+ s/);
    await operator.untilSaid("counts as down: it was killed, or is cut off");
    await photograph(operator, "killed");
    assert.deepEqual(operator.errors, []);
  } finally {
    await sleeper.kill();
  }
});

test("the page shows the numbers that Prometheus is told", async () => {
  const nodes = { one, two };
  const [updating] = [await Visitor.join(one.url, "ann", ROOM), await Visitor.join(one.url, "bob", ROOM)];
  const lingering = await Visitor.join(one.url, "cyn", ROOM);
  const leaving = await Visitor.join(two.url, "dan", ROOM);
  await Visitor.join(two.url, "eve", "room:other");
  updating.push(ROOM, "update", { status: "away" });
  leaving.push(ROOM, "phx_leave");
  lingering.vanish();

  const operator = await look(one);
  const { page } = operator;
  /** A sample, in the words of ofMetrics. */
  const ofSample = ({ nodes, sockets: [sockets, bytes] }) => ({
    sockets,
    bytes,
    nodes: Object.fromEntries(Object.entries(nodes).map(([name, { presences, topics, counts, is_connected, nodes }]) => {
      const own = nodes.find(({ is_self }) => is_self).presences;
      const up = nodes.filter(({ state }) => state === "up").length;
      return [name, { presences, topics, own, up, isConnected: is_connected, ...counts }];
    })),
  });
  const ofMetrics = async () => {
    const told = {};
    for (const [name, node] of Object.entries(nodes)) told[name] = await node.metrics();
    const changes = (metric, ...kinds) => kinds.reduce((sum, change) => sum + metric("adsum_presence_changes_total", { change }), 0);
    return {
      sockets: told.one("adsum_sockets"),
      bytes: told.one("adsum_queue_bytes"),
      nodes: Object.fromEntries(Object.entries(told).map(([name, metric]) => [name, {
        presences: metric("adsum_presences"),
        topics: metric("adsum_presence_topics"),
        own: metric("adsum_presences", { origin: "own" }),
        up: metric("adsum_replicas", { state: "up" }),
        isConnected: metric("adsum_engine_connected") === 1,
        diffs: metric("adsum_diffs_total"),
        joins: changes(metric, "joined", "updated"),
        leaves: changes(metric, "left", "updated"),
        messages_received: metric("adsum_messages_received_total"),
        messages_sent: metric("adsum_messages_sent_total"),
        bytes_received: metric("adsum_bytes_received_total"),
        bytes_sent: metric("adsum_bytes_sent_total"),
      }])),
    };
  };
  // Once all is quiet, both stay what they are.
  const deadline = Date.now() + DEADLINE;
  let told;
  for (;;) {
    const shown = ofSample(await operator.nextSample());
    told = await ofMetrics();
    if (isDeepStrictEqual(shown, told)) break;
    if (Date.now() > deadline) assert.deepEqual(shown, told);
  }
  const { presences, topics, joins, leaves } = told.nodes.one;
  // The update is one of each. The node may not have heard of the one who left soon.
  assert.ok(joins >= 5 && leaves >= 1, `${joins} joins, ${leaves} leaves`);
  assert.deepEqual([presences, topics, told.sockets, told.nodes.two.own], [4, 2, 2, 1]);

  for (const [name, { own }] of Object.entries(told.nodes)) {
    await page.locator("[aria-label='Nodes'] tbody tr", { hasText: name }).locator("td").nth(2).filter({ hasText: `${own}` }).waitFor();
  }
  await operator.choose("Plots");
  for (const text of [`presences ${presences} topics ${topics}`, `sockets ${told.sockets}`, `bytes ${told.bytes} B`]) {
    await page.locator(".now", { hasText: text }).waitFor();
  }
  // A rate is the difference of two samples.
  for (const rates of ["joins 0/s leaves 0/s diffs 0/s", "from clients 0/s to clients 0/s", "from clients 0 B/s to clients 0 B/s"]) {
    await page.locator(".now", { hasText: rates }).waitFor();
  }
  assert.deepEqual(operator.errors, []);
});

test("one cluster is seen from any node, down to the messages of a socket", async () => {
  const visitor = await Visitor.join(two.url, "ann", ROOM);
  for (const node of [one, two]) {
    const operator = await look(node);
    const { page } = operator;
    const hears = page.locator("[aria-label='How each node hears the others'] tbody tr");
    await page.locator("tbody tr", { hasText: "two" }).locator(".badge[data-state=up]").first().waitFor();
    await hears.filter({ hasText: "one" }).getByText(/up, [\d.]+ s/).waitFor();
    await operator.choose("Topics");
    await page.locator("#search").fill("lob");
    await page.locator("a", { hasText: ROOM }).click();
    await page.locator("tbody tr", { hasText: "ann" }).getByText("online_at").waitFor();
    await page.locator("a", { hasText: "Explain ann" }).click();
    await operator.untilSaid("A channel on two has held it for");

    await page.locator("button", { hasText: "Watch its messages" }).click();
    await page.locator("#watch [role=status]", { hasText: "Watching on two" }).waitFor();
    visitor.push(ROOM, "echo", { text: "hello", token: "hunter2" });
    await page.locator(".messages li[data-from=client]", { hasText: "echo" }).first().waitFor();
    await page.locator(".messages li[data-from=server]", { hasText: "phx_reply" }).first().waitFor();
    const messages = await page.locator(".messages").innerText();
    assert.ok(messages.includes("[FILTERED]") && !messages.includes("hunter2"), messages);
    await photograph(operator, `watching-${node === one ? "one" : "two"}`);
    await page.locator("#watch button").click();

    await operator.choose("Plots");
    await page.locator("figure canvas").first().waitFor();
    await page.locator(".now", { hasText: "presences 1" }).waitFor();
    assert.deepEqual(operator.errors, []);
    await operator.close();
  }
});

test("a topic is read in pages", async () => {
  const visitors = Array.from({ length: 51 }, (_, n) => Visitor.join(one.url, `user-${String(n).padStart(2, "0")}`, ROOM));
  await Promise.all(visitors);
  const operator = await look(two);
  const { page } = operator;
  await operator.choose("Topics");
  await page.locator("a", { hasText: ROOM }).click();
  const row = (key) => page.locator("tbody tr", { hasText: key });
  await row("user-49").waitFor();
  assert.equal(await row("user-50").count(), 0);
  assert.deepEqual(await findings(page), []);
  await page.locator("a", { hasText: "Next page" }).click();
  await row("user-50").waitFor();
  assert.equal(await page.locator("tbody tr").count(), 1);
  assert.equal(await page.locator("a", { hasText: "Next page" }).count(), 0);
  await page.locator("a", { hasText: "First page" }).click();
  await row("user-00").waitFor();
  assert.deepEqual(operator.errors, []);
});

test("an operator disconnects the sockets of an id, at the second click", async () => {
  const visitor = await Visitor.join(two.url, "bob", ROOM);
  const operator = await look(one);
  await operator.explain(ROOM, "bob");
  const button = operator.page.locator(".danger");
  await button.filter({ hasText: "Disconnect all sockets of users:bob" }).click();
  await button.filter({ hasText: "Really?" }).click();
  await visitor.untilClosed(1001);
  await operator.untilSaid("was told to disconnect");
  assert.deepEqual(operator.errors, []);
});

test("pages of other sites get nothing, whatever name they come by", async () => {
  const { port } = new URL(one.dashboard);
  const ask = async (headers) => (await request(port, headers)).statusCode;
  assert.equal(await ask({ host: `localhost:${port}` }), 200);
  assert.equal(await ask({ host: `evil.example:${port}` }), 421);
  assert.equal(await ask({ host: `localhost:${port}`, origin: "https://evil.example" }), 421);
});

for (const colorScheme of ["light", "dark"]) {
  for (const width of [360, 1280]) {
    test(`every view is accessible, ${colorScheme}, at ${width} px`, async () => {
      await Visitor.join(one.url, "ann", ROOM);
      const lingering = await Visitor.join(one.url, "lingering", ROOM);
      lingering.vanish();
      const operator = await look(one, { colorScheme, viewport: { width, height: 800 } });
      const { page } = operator;
      for (const view of ["Nodes", "Topics", "Plots", "Explain"]) {
        await operator.choose(view);
        if (view === "Nodes") await page.locator(".badge[data-state=up]").first().waitFor();
        if (view === "Topics") await page.locator("a", { hasText: ROOM }).waitFor();
        if (view === "Plots") await page.locator("figure canvas").first().waitFor();
        if (view === "Explain") {
          await operator.explain(ROOM, "lingering");
          await operator.untilSaid("It lingers for another");
        }
        await photograph(operator, `${view}-${colorScheme}-${width}`);
        assert.deepEqual(await findings(page), [], view);
        assert.deepEqual(await tooWide(page), [], view);
      }
      assert.deepEqual(operator.errors, []);
    });
  }
}
