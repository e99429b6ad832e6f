// Games on networks that fail, in tabs that are hidden, on a site that is restarted.

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { launchBrowser, scene } from "./lib/scene.mjs";

let browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

const play = (title, script, settings) => scene(title, () => browser, script, settings);

/** A lost connection is noticed soon, but not one of a machine that is busy; and a game can be claimed soon. */
const QUICK = { PING_MS: "300", PONG_MS: "5000", LINGER_MS: "300", CLAIM_MS: "1500", CLAIM_BYE_MS: "600" };

play("a reload in the middle of a game leaves no trace", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "e4", "e5");
  await bob.watchStatus("white");
  const began = performance.now();
  const before = await alice.clock("white");
  await alice.reload();
  await alice.untilAtGame(bob.game);
  await alice.untilState("Your turn.");
  await alice.untilPieces({ e4: "wp", e5: "bp" });
  const after = await alice.clock("white");
  const passed = (performance.now() - began) / 1_000;
  assert.ok(after <= before && after >= before - passed - 1, `the clock went from ${before} to ${after} in ${passed} s`);
  await alice.play(bob, "Nf3");
  assert.deepEqual(await bob.noted(), ["here"]);
}, { LINGER_MS: "600000" });

play("a site that is killed in the middle of a game has every confirmed move when it is back", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "e4", "c5", "Nf3");
  await stage.chess.kill();
  for (const tab of [alice, bob]) {
    await tab.untilConnection("lost");
    await tab.untilStatus("white", "unknown");
    await tab.untilStatus("black", "unknown");
  }
  await stage.chess.start();
  for (const tab of [alice, bob]) {
    await tab.untilConnection("online");
    await tab.untilStatus("white", "here");
    await tab.untilStatus("black", "here");
    assert.deepEqual(await tab.sans(), ["e4", "c5", "Nf3"]);
  }
  await bob.play(alice, "d6", "d4");
});

play("an opponent whose network is gone is told as lost, then as gone, and is back at once", async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ bob: { relay } });
  await alice.play(bob, "e4", "e5");
  await alice.untilStatus("black", "here");
  await alice.watchStatus("black");
  relay.silence();
  await alice.untilStatus("black", "gone");
  // He is absent until the site says since when.
  const noted = (await alice.noted()).filter((status) => status !== "absent");
  assert.deepEqual(noted, ["here", "lost", "gone"]);
  assert.equal(await alice.action("claim-win").isVisible(), false, "it is Alice's turn");
  relay.restore();
  await alice.untilStatus("black", "here");
  await alice.play(bob, "Nf3");
}, QUICK);

play("the one whose network is gone is told so, and nothing of others", async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ alice: { relay } });
  await alice.play(bob, "e4", "e5");
  await alice.untilStatus("black", "here");
  await alice.watchStatus("black");
  relay.silence();
  await bob.untilStatus("white", "gone");
  await alice.untilConnection("lost");
  await alice.untilStatus("black", "unknown");
  assert.deepEqual(new Set(await alice.noted()), new Set(["here", "unknown"]));
  assert.equal(await alice.action("claim-win").isVisible(), false);
  assert.equal(await alice.action("resign").isDisabled(), true);
  relay.restore();
  await alice.untilConnection("online");
  await alice.untilStatus("black", "here");
}, QUICK);

play("a game is claimed from somebody who is gone", async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ bob: { relay } });
  await alice.play(bob, "e4", "e5", "Nf3");
  relay.silence();
  await alice.page.locator("#claim-wait", { hasText: /In \d s you can claim the game/ }).waitFor();
  await alice.action("claim-win").click();
  await alice.untilState(/^1 – 0\. .*(left|abandon|gone)/i);
  relay.restore();
  await bob.untilState(/^1 – 0\. /);
}, { ...QUICK, CLAIM_MS: "9000" }); // The countdown is there for as long.

play("closing the page makes the game claimable sooner, and a claim that is too early is answered", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "e4", "e5", "Nf3");
  const early = await alice.tell(`game:${alice.game}`, "claim", { as: "win" });
  assert.equal(early.error.reason, "opponent_here");
  assert.match(early.error.message, /\S/);
  await bob.page.goto("about:blank");
  await alice.untilStatus("black", "gone");
  await alice.action("claim-draw").click();
  await alice.untilState(/^½ – ½\. /);
}, { ...QUICK, CLAIM_MS: "60000" });

play("a claim that comes as the other returns is answered", async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ bob: { relay } });
  await alice.play(bob, "e4", "e5", "Nf3");
  relay.silence();
  await alice.action("claim-win").waitFor();
  // Both at once: either the game is won, or the other is back; and both see the same.
  relay.restore();
  await alice.action("claim-win").click({ timeout: 500 }).catch(() => {});
  await bob.untilConnection("online");
  await alice.untilStatus("black", "here");
  // Now that he is here, a claim that hasn't won never does.
  const { ok } = await alice.tell(`game:${alice.game}`, "sync", {});
  if (ok.game.result === null) await bob.play(alice, "Nc6");
  else for (const tab of [alice, bob]) await tab.untilState(/^1 – 0/);
}, QUICK);

play("a move made without a network is marked, and sent once the network is back", async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ alice: { relay } });
  await alice.untilState("Your turn.");
  relay.silence();
  await alice.click("e2", "e4");
  await alice.untilMarked("pending e2", "pending e4");
  await alice.untilState(/isn't confirmed/);
  relay.restore();
  await bob.untilPly(1);
  await alice.untilPly(1);
  await alice.untilNotMarked("pending");
  for (const tab of [alice, bob]) {
    assert.deepEqual(await tab.sans(), ["e4"]);
    await tab.untilPieces({ e2: null, e4: "wp" });
  }
});

play("a move made without a network that came too late is dropped, and said", async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ alice: { relay } });
  relay.silence();
  await alice.click("e2", "e4");
  await alice.untilMarked("pending e4");
  // Meanwhile she plays something else, by another way.
  const phone = await alice.another(stage.chess.url);
  await phone.page.goto(`${stage.chess.url}game/${bob.game}`);
  await phone.untilState("Your turn.");
  await phone.play(bob, "d4", "d5");
  relay.restore();
  await alice.untilNote("Your move e2e4 was not played: the position has changed.");
  await alice.untilPieces({ e2: "wp", e4: null, d4: "wp", d5: "bp" });
  await alice.untilNotMarked("pending");
  await alice.play(bob, "c4");
});

play("a piece that is held while the connection comes back is no phantom", async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ alice: { relay } });
  relay.silence();
  await alice.drag("e2", "e4");
  const other = await alice.another(stage.chess.url);
  await other.page.goto(`${stage.chess.url}game/${bob.game}`);
  await other.untilState("Your turn.");
  await other.play(bob, "e3", "e5", "e4", "Nc6");
  relay.restore();
  await alice.untilPly(4);
  await alice.page.mouse.up();
  await alice.untilPieces({ e2: null, e3: null, e4: "wp", e5: "bp", c6: "bn" });
  assert.equal(await alice.page.locator(".cm-chessboard-draggable-piece").count(), 0);
  assert.equal(Object.keys(await alice.pieces()).length, 32);
});

/** Keeps the next change of a game from a page. */
async function loseOneChange(tab) {
  await tab.page.routeWebSocket(/\/socket\//, (page) => {
    const site = page.connectToServer();
    site.onMessage((message) => {
      const isLost = tab.losesChange && String(message).includes('"change"');
      if (isLost) tab.losesChange = false;
      else page.send(message);
    });
  });
  await tab.reload();
  await tab.untilAtGame();
}

play("a change that got lost is asked for when the next one comes", async (stage) => {
  const [alice, bob] = await stage.table();
  await loseOneChange(alice);
  await alice.play(bob, "e4");
  alice.losesChange = true;
  await bob.type("e5");
  await bob.untilPly(2);
  await bob.action("draw").click();
  await alice.untilPly(2);
  await alice.untilPieces({ e5: "bp" });
  await alice.untilState("Your turn.");
});

play("a change that got lost is asked for when the clock shows zero", async (stage) => {
  const [alice, bob] = await stage.table({ initial_ms: 30_000, increment_ms: 4_000 });
  await loseOneChange(alice);
  await alice.play(bob, "e4", "e5", "Nf3");
  alice.losesChange = true;
  await bob.type("Nc6");
  await bob.untilPly(4);
  assert.deepEqual(await alice.sans(), ["e4", "e5", "Nf3"]);
  await alice.untilPly(4);
  const [before, shown, after] = [await bob.clock("white"), await alice.clock("white"), await bob.clock("white")];
  assert.ok(before + 1 >= shown && shown >= after - 1, `it shows ${shown} here, and there ${before} before and ${after} after`);
  assert.equal(await alice.clock("black"), await bob.clock("black"));
});

play("a hidden tab is away, and never gone", async (stage) => {
  const [alice, bob] = await stage.table();
  const relay = await stage.relay();
  const [carol, dave] = await stage.table({ names: ["Carol", "Dave"], bob: { relay } });
  for (const [white, black] of [[alice, bob], [carol, dave]]) await white.play(black, "e4", "e5", "Nf3");
  await alice.watchStatus("black");
  await bob.setVisibility("hidden");
  await alice.untilStatus("black", "away");
  // As long as it takes to miss somebody who is gone.
  relay.silence();
  await carol.action("claim-win").waitFor();
  assert.equal(await alice.action("claim-win").isVisible(), false);
  await bob.setVisibility("visible");
  await alice.untilStatus("black", "here");
  assert.deepEqual(new Set(await alice.noted()), new Set(["here", "away"]));
}, QUICK);

play("back and forward go between lobby and games, and nobody else is told", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "e4", "e5");
  await alice.page.goBack();
  await alice.untilInLobby();
  await alice.page.locator("#my-game a").waitFor();
  await alice.page.goForward();
  await alice.untilAtGame(bob.game);
  await alice.untilStatus("white", "here");
  await alice.play(bob, "Nf3");
});

play("a page that the browser kept is back in its game", async (stage) => {
  const own = await launchBrowser({ whole: true, ignoreDefaultArgs: ["--disable-back-forward-cache"] });
  try {
    const [alice, bob] = await stage.table({ alice: { browser: own } });
    await alice.play(bob, "e4", "e5");
    await alice.page.evaluate(() => addEventListener("pageshow", ({ persisted }) => (window.wasKept = persisted)));
    await alice.page.goto("about:blank");
    await bob.untilStatus("white", "gone");
    await alice.page.goBack({ waitUntil: "commit" });
    await alice.untilStatus("white", "here");
    assert.equal(await alice.page.evaluate(() => window.wasKept), true, "the page was kept, not loaded anew");
    await bob.untilStatus("white", "here");
    await alice.play(bob, "Nf3");
  } finally {
    await own.close();
  }
}, QUICK);

play("a hidden tab whose connection breaks is away again by itself", async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ bob: { relay } });
  await bob.setVisibility("hidden");
  await alice.untilStatus("black", "away");
  await alice.watchStatus("black");
  relay.restore();
  await alice.page.waitForFunction(() => window.noted.has("lost"));
  await alice.untilStatus("black", "away");
}, { LINGER_MS: "100" });
