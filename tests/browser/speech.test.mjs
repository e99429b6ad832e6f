// A game by ear: what is said, when, and what is only heard if somebody wants it.

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { launchBrowser, scene } from "./lib/scene.mjs";

let browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

const play = (title, script, settings) => scene(title, () => browser, script, settings);

const said = (tab) => tab.page.locator("#spoken p").allInnerTexts();
const urgent = (tab) => tab.page.locator("#urgent");

play("moves are said in words, the end at once, and the title tells whose turn it is", async (stage) => {
  const [alice, bob] = await stage.table();
  assert.equal(await alice.page.title(), "Your turn – Chess");
  assert.equal(await bob.page.title(), "Alice – Bob");
  await alice.play(bob, "e4", "d5", "exd5", "Nf6", "Bb5+", "Bd7", "Bxd7+", "Nbxd7", "Nf3", "c6", "O-O");
  const expected = [
    "White: pawn to e4.",
    "Black: pawn to d5.",
    "White: pawn from e takes on d5.",
    "Black: knight to f6.",
    "White: bishop to b5, check.",
    "Black: bishop to d7.",
    "White: bishop takes on d7, check.",
    "Black: knight from b takes on d7.",
    "White: knight to f3.",
    "Black: pawn to c6.",
    "White: castles kingside.",
  ];
  for (const tab of [alice, bob]) assert.deepEqual(await said(tab), expected);
  await bob.page.waitForFunction(() => document.title === "Your turn – Chess");
  assert.equal(await bob.page.locator("#game-state").getAttribute("aria-live"), "polite");

  // A latecomer hears nothing of the past.
  const carol = await stage.guest("Carol");
  await carol.openGame(alice.game);
  assert.deepEqual(await said(carol), []);

  await bob.action("resign").click();
  await bob.action("resign").click();
  for (const tab of [alice, bob, carol]) {
    await urgent(tab).filter({ hasText: /^The game is over\. .*resign/i }).waitFor({ state: "attached" });
    // Not twice.
    assert.equal(await tab.page.locator("#game-state").getAttribute("aria-live"), "off");
  }
});

play("an opponent who has left is told at once, and so is that they are back", async (stage) => {
  const [alice, bob] = await stage.table();
  await bob.page.goto(`${stage.chess.url}you`);
  await urgent(alice).filter({ hasText: "Bob is gone." }).waitFor({ state: "attached" });
  await bob.openGame(alice.game);
  await alice.page.waitForFunction(() => document.querySelector("#urgent").textContent === "");
});

play("whoever plays by keys hears what is picked up, put back and refused", async (stage) => {
  const [alice, bob] = await stage.table();
  const heard = (tab, text) => tab.page.locator("#game-board [aria-live=polite]", { hasText: new RegExp(`^${text}$`) }).waitFor({ state: "attached" });
  const press = (key) => alice.page.keyboard.press(key);
  await alice.keys("g1");
  await heard(alice, "Knight on g1 picked up");
  await press("ArrowUp");
  await heard(alice, "g2 white pawn");
  await press("ArrowUp");
  await heard(alice, "g3 empty");
  await press("Enter");
  await heard(alice, "Knight on g1 to g3 is not a legal move");
  await press("Enter");
  await heard(alice, "No piece of yours on g3");
  await alice.keys("g1", "g1");
  await heard(alice, "Knight on g1 put back");
  await alice.keys("e2");
  await heard(alice, "Pawn on e2 picked up");
  await press("Escape");
  await heard(alice, "Pawn on e2 put back");
  // Another piece of one's own is taken instead.
  await alice.keys("e2", "d2");
  await heard(alice, "Pawn on d2 picked up");
  await alice.keys("a1");
  await heard(alice, "Pawn on d2 to a1 is not a legal move");
  await bob.keys("e7");
  await heard(bob, "Pawn on e7 can't move now");
  await bob.keys("e2");
  await heard(bob, "No piece of yours on e2");
});

play("clocks are timers that speak at 30 and at 10 s", async (stage) => {
  const [alice] = await stage.table({ initial_ms: 31_000 });
  assert.equal(await alice.page.locator(".side [role=timer]").count(), 2);
  // The clocks of the page run on performance.now().
  const ahead = (milliseconds) =>
    alice.page.evaluate((milliseconds) => {
      const now = performance.now.bind(performance);
      performance.now = () => now() + milliseconds;
    }, milliseconds);
  await ahead(2_000);
  await alice.page.locator("#spoken p", { hasText: "You have 30 seconds." }).waitFor({ state: "attached" });
  await ahead(20_000);
  await alice.page.locator("#spoken p", { hasText: "You have 10 seconds." }).waitFor({ state: "attached" });
  assert.equal((await said(alice)).length, 2);
});

play("the seconds until a claim are shown, and not said", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "e4", "e5", "Nf3");
  await alice.page.evaluate(() => {
    const seen = (window.seen = { said: [], shown: new Set() });
    const look = () => {
      const live = [...document.querySelectorAll(".game :is([role=status], [role=alert], [role=log], [aria-live=polite])")];
      const said = live.map((region) => region.textContent.trim()).filter((text) => /Bob|claim/.test(text)).join(" ");
      if (said && said !== seen.said.at(-1)) seen.said.push(said);
      seen.shown.add(/In \d s you can claim/.exec(document.querySelector(".panel").innerText)?.[0]);
    };
    new MutationObserver(look).observe(document.querySelector(".game"), { subtree: true, childList: true, characterData: true });
  });
  await bob.page.goto("about:blank");
  await alice.action("claim-win").waitFor();
  const { said, shown } = await alice.page.evaluate(() => ({ ...window.seen, shown: [...window.seen.shown] }));
  assert.ok(shown.filter(Boolean).length > 1, shown.join());
  // That he is gone is urgent, as before.
  assert.deepEqual(said.map((text) => text.replace(/ ?Bob is gone\.$/, "")).filter(Boolean), [
    "Bob has no connection.",
    "Bob is gone: you can claim the game.",
  ]);
}, { LINGER_MS: "100", CLAIM_BYE_MS: "4000" });

play("a hint is said politely, and what has failed at once", async (stage) => {
  const [alice, bob] = await stage.table();
  await bob.type("e5");
  await bob.page.locator("[role=status]", { hasText: /^It isn't your turn\.$/ }).waitFor();
  await alice.type("e5");
  await alice.page.locator("#game-error[role=alert]", { hasText: /\S/ }).waitFor();
  // Each takes the place of the other.
  assert.equal(await alice.page.locator("#game-note").innerText(), "");
});

play("sounds are off until wanted, and remembered", async (stage) => {
  const [alice, bob] = await stage.table();
  const listen = () =>
    alice.page.evaluate(() => {
      window.heard = [];
      for (const kind of ["AudioBufferSourceNode", "OscillatorNode"]) {
        const { start } = globalThis.AudioScheduledSourceNode.prototype;
        globalThis[kind].prototype.start = function (...at) {
          window.heard.push(kind);
          return start.apply(this, at);
        };
      }
    });
  const heard = () => alice.page.evaluate(() => window.heard);
  const button = alice.page.locator("#sound");
  await listen();
  await alice.play(bob, "e4", "d5");
  assert.deepEqual(await heard(), []);
  assert.equal(await button.getAttribute("aria-pressed"), "false");
  await button.click();
  assert.equal(await button.getAttribute("aria-pressed"), "true");
  assert.deepEqual(await heard(), ["AudioBufferSourceNode"], "the button lets its sound be heard");
  await alice.play(bob, "exd5", "Nf6");
  assert.equal((await heard()).length, 3);
  await alice.page.reload();
  await alice.untilAtGame();
  assert.equal(await button.getAttribute("aria-pressed"), "true");
});

play("nothing moves for somebody who wants no motion", async (stage) => {
  const [alice, bob] = await stage.table({ alice: { reducedMotion: "reduce" } });
  await alice.play(bob, "e4", "e5");
  const running = await alice.page.evaluate(() => document.getAnimations().filter(({ playState }) => playState === "running").length);
  assert.equal(running, 0);
});

play("the most watched game is a live board in the lobby", async (stage) => {
  const carol = await stage.guest("Carol");
  const [alice, bob] = await stage.table();
  const board = carol.page.locator("#live-board");
  await board.waitFor();
  assert.equal(await board.getAttribute("aria-label"), "Watch Alice against Bob");
  const at = (row, column) => carol.page.locator(`#live-board svg[style*="grid-area: ${row} / ${column}"]`);
  await alice.play(bob, "e4", "e5");
  // e4 and e5.
  for (const row of [5, 4]) await at(row, 5).waitFor();
  await board.click();
  await carol.untilAtGame(alice.game);
});
