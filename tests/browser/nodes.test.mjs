// Games on a site of two nodes, which are killed, frozen and rolled while people play.

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { launchBrowser, sceneOfNodes } from "./lib/scene.mjs";

let browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

const play = (title, script, settings) => sceneOfNodes(title, () => browser, script, settings);

/** Alice (white) on node a and Bob on node b, who play; Carol on a and Dave on b, who watch. */
async function four(stage) {
  const relays = { a: await stage.chess.balancer("a"), b: await stage.chess.balancer("b") };
  const [alice, bob] = await stage.table({ alice: { relay: relays.a }, bob: { relay: relays.b } });
  const carol = await stage.guest("Carol", { relay: relays.a });
  const dave = await stage.guest("Dave", { relay: relays.b });
  for (const tab of [carol, dave]) await tab.openGame(alice.game);
  await untilCrowd([alice, bob, carol, dave]);
  return { alice, bob, carol, dave, all: [alice, bob, carol, dave] };
}

/** Resolves once all see the same spectators, in the same order. */
async function untilCrowd(tabs) {
  for (const tab of tabs) await tab.page.locator("[data-test=crowd]", { hasText: /^Watching \(2\): / }).waitFor();
  const seen = await Promise.all(tabs.map((tab) => tab.page.locator("[data-test=crowd]").innerText()));
  assert.equal(new Set(seen).size, 1, seen.join("; "));
}

async function untilAllHere(tabs) {
  for (const tab of tabs) for (const color of ["white", "black"]) await tab.untilStatus(color, "here");
}

/** Resolves once all see these moves and no others. */
async function untilMoves(tabs, ...moves) {
  for (const tab of tabs) {
    await tab.untilPly(moves.length);
    assert.deepEqual(await tab.sans(), moves);
  }
}

play("people on two nodes play, watch and see each other", async (stage) => {
  const { alice, bob, carol, dave, all } = await four(stage);
  await alice.play(bob, "e4", "e5", "Nf3");
  await untilMoves(all, "e4", "e5", "Nf3");
  await untilAllHere(all);
  for (const tab of [carol, dave]) await tab.page.locator(".brand").click();
  const everyone = { Alice: "playing", Bob: "playing", Carol: "here", Dave: "here" };
  for (const tab of [carol, dave]) {
    await tab.untilPeople(everyone);
    await tab.page.locator("[data-test=running]").waitFor();
  }
  await bob.action("resign").dblclick();
  for (const tab of [alice, bob]) await tab.untilState(/^1 – 0/);
  for (const tab of [carol, dave]) await tab.page.locator("#no-games").waitFor();
});

play("a node is killed, and they play on", async (stage) => {
  const { alice, bob, carol, dave, all } = await four(stage);
  await alice.play(bob, "e4", "e5");
  for (const tab of all) await tab.watchConnection();
  await stage.chess.node("a").kill();
  for (const tab of [alice, carol]) await tab.untilReconnected();
  await alice.play(bob, "Nf3", "Nc6");
  await untilAllHere(all);
  await untilMoves(all, "e4", "e5", "Nf3", "Nc6");
  await untilCrowd(all);
  // It is back, and the other one goes.
  await stage.chess.startNode("a");
  for (const tab of [bob, dave]) await tab.watchConnection();
  await stage.chess.node("b").kill();
  for (const tab of [bob, dave]) await tab.untilReconnected();
  await alice.play(bob, "Bb5", "a6");
  await untilAllHere(all);
  await untilMoves(all, "e4", "e5", "Nf3", "Nc6", "Bb5", "a6");
  await untilCrowd(all);
  await stage.chess.startNode("b");
});

play("a node is frozen, and they play on; it wakes, and nothing changes", async (stage) => {
  const { alice, bob, carol, dave, all } = await four(stage);
  await alice.play(bob, "e4", "e5");
  // A move is on its way into the node as it freezes.
  stage.chess.node("a").pause();
  await alice.click("g1", "f3");
  await alice.untilMarked("pending g1", "pending f3");
  await bob.untilPly(3);
  await alice.untilPly(3);
  await bob.play(alice, "Nc6");
  await untilAllHere(all);
  await untilCrowd(all);
  const moves = ["e4", "e5", "Nf3", "Nc6"];
  await untilMoves(all, ...moves);

  for (const tab of all) for (const color of ["white", "black"]) await tab.watchStatus(color);
  stage.chess.node("a").resume();
  // Once it serves somebody new, who sees the same, it is awake.
  const erin = await stage.guest("Erin", { relay: { url: stage.chess.urlOf("a") } });
  await erin.openGame(alice.game);
  await untilAllHere([erin]);
  await untilMoves([...all, erin], ...moves);
  for (const tab of [...all, erin]) {
    await tab.page.locator("[data-test=crowd]", { hasText: "Watching (3): " }).waitFor();
  }
  for (const tab of all) assert.deepEqual(await tab.noted(), ["here"], "nobody was seen to leave");
  await alice.play(bob, "Bb5", "a6");
  await untilMoves([carol, dave, erin], ...moves, "Bb5", "a6");
});

play("both nodes are rolled, and nobody is seen to leave", async (stage) => {
  const { alice, bob, all } = await four(stage);
  await alice.play(bob, "e4", "e5");
  await bob.watchStatus("white");
  await alice.watchStatus("black");
  for (const name of ["a", "b"]) {
    await stage.chess.node(name).stop();
    await stage.chess.startNode(name);
    for (const tab of all) await tab.untilConnection("online");
    await alice.play(bob, ...(name === "a" ? ["Nf3", "Nc6"] : ["Bb5", "a6"]));
    await untilAllHere(all);
    await untilCrowd(all);
  }
  await untilMoves(all, "e4", "e5", "Nf3", "Nc6", "Bb5", "a6");
  // Whose own connection is lost sees nothing of others for that time.
  for (const tab of [alice, bob]) {
    const seen = await tab.noted();
    assert.ok(seen.every((status) => ["here", "unknown"].includes(status)), seen.join());
  }
}, { LINGER_MS: "10000" }); // Time to connect anew, on a busy machine too.

play("without NATS a move comes within three seconds", async (stage) => {
  const { alice, bob, all } = await four(stage);
  await alice.play(bob, "e4", "e5");
  await stage.chess.engine.kill();
  const moves = ["e4", "e5"];
  const delay = async (mover, other, move) => {
    moves.push(move);
    await mover.type(move);
    await mover.untilPly(moves.length);
    const confirmed = performance.now();
    await other.untilPly(moves.length);
    return performance.now() - confirmed;
  };
  // A machine that does much else meanwhile takes longer, but not each time.
  const times = [[], []];
  for (const [white, black] of [["Nf3", "Nc6"], ["Bb5", "a6"], ["Ba4", "Nf6"]]) {
    times[0].push(await delay(alice, bob, white));
    times[1].push(await delay(bob, alice, black));
    if (times.every((of) => Math.min(...of) < 3_000)) break;
  }
  assert.ok(times.every((of) => Math.min(...of) < 3_000), `it took ${times.join(" and ")} ms`);
  await untilMoves(all, ...moves);
  await untilAllHere(all);
  await stage.chess.engine.start();
  await alice.play(bob, "h3", "h6");
  await untilAllHere(all);
});
