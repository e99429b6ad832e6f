// Games, as people play and watch them with real browsers.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";

import { launchBrowser, scene } from "./lib/scene.mjs";

let browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

const play = (title, script, settings) => scene(title, () => browser, script, settings);

const PHONE = { viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true };

play("two play to mate while somebody watches", async (stage) => {
  const [alice, bob] = await stage.table();
  const carol = await stage.guest("Carol");
  await carol.page.locator("[data-test=running] a").click();
  await carol.untilAtGame(alice.game);
  assert.equal(await alice.bottom(), "white");
  assert.equal(await bob.bottom(), "black");
  for (const tab of [alice, bob]) await tab.page.locator("[data-test=crowd]", { hasText: "Watching (1): Carol" }).waitFor();

  await alice.untilState("Your turn.");
  await alice.click("e2");
  await alice.untilMarked("held e2", "target e3", "target e4");
  await alice.click("e4");
  await bob.untilPieces({ e2: null, e4: "wp" });
  await bob.untilState("Your turn.");
  await bob.dragMove("e7", "e5");
  await alice.untilPieces({ e7: null, e5: "bp" });
  await alice.untilMarked("last e7", "last e5");
  await alice.play(bob, "Bc4", "Nc6");
  await alice.keys("d1", "h5");
  await bob.untilPieces({ h5: "wq" });
  await bob.type("Nf6");
  await alice.untilPly(6);
  await alice.click("h5", "f7");
  for (const tab of [alice, bob, carol]) {
    await tab.untilState(/^1 – 0\. .*checkmate/i);
    assert.deepEqual(await tab.sans(), ["e4", "e5", "Bc4", "Nc6", "Qh5", "Nf6", "Qxf7#"]);
    await tab.untilPieces({ f7: "wq", h5: null });
    assert.equal(await tab.side("white").locator(".captured svg").count(), 1, "a pawn is captured");
    await tab.untilMarked("check e8");
  }
  assert.equal(await carol.action("resign").isVisible(), false);
});

play("a game that was left draws nothing more", async (stage) => {
  const [alice] = await stage.table();
  await alice.click("e2", "e4");
  await alice.untilPly(1);
  await alice.page.locator("#game-steps a", { hasText: "Lobby" }).click();
  await alice.untilInLobby();
  // The page's timers fire in order, so this one comes after those of the game, none of which is longer.
  await alice.page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 1_000)));
  assert.match(await alice.page.title(), /Chess$/);
  assert.doesNotMatch(await alice.page.title(), /–/);
});

play("a game, and a lobby, that was left keeps nothing running", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "e4", "e5");
  const carol = await stage.guest("Carol");
  const { page } = carol;
  // From here on counts what is begun and not ended.
  await page.evaluate(() => {
    const running = (window.running = { intervals: new Set(), observed: 0, listeners: 0 });
    const wrap = (of, name, also) => {
      const inner = of[name];
      of[name] = function (...given) {
        const made = inner.apply(this, given);
        also.call(this, made, ...given);
        return made;
      };
    };
    wrap(window, "setInterval", (id) => running.intervals.add(id));
    wrap(window, "clearInterval", (_, id) => running.intervals.delete(id));
    wrap(ResizeObserver.prototype, "observe", () => (running.observed += 1));
    wrap(ResizeObserver.prototype, "unobserve", () => (running.observed -= 1));
    for (const [name, step] of [["addEventListener", 1], ["removeEventListener", -1]]) {
      const count = function (_, type, listener, options) {
        // Listeners that end by a signal aren't counted.
        if ((this === window || this === document) && !options?.signal) running.listeners += step;
      };
      wrap(window, name, count);
      wrap(document, name, count);
    }
  });
  const running = () => page.evaluate(() => ({ ...window.running, intervals: window.running.intervals.size }));
  for (let visits = 0; visits < 3; visits += 1) {
    await page.locator("[data-test=running] a").click();
    await carol.untilAtGame(alice.game);
    assert.equal((await running()).observed, 1);
    await page.locator(".brand").click();
    await page.locator("[data-view=lobby]").waitFor();
    assert.deepEqual(await running(), { intervals: 0, observed: 0, listeners: 0 });
  }
  // A board that is closed while it moves a piece, or while one is held, draws nothing more.
  await alice.click("g1");
  for (const tab of [alice, bob]) {
    await tab.page.locator("#flip").click();
    await tab.page.locator("#game-steps [value=first]").click();
    await tab.page.locator(".brand").click();
    await tab.untilInLobby();
  }
  const intervals = [];
  for (const name of ["Dave", "Erin"]) {
    await page.locator("#sign-out").click();
    await page.locator("#leaving-leave").click();
    await carol.untilAtDoor();
    await carol.choose(name);
    await carol.untilInLobby();
    intervals.push((await running()).intervals);
  }
  assert.equal(intervals[1], intervals[0]);
});

play("castling, a pawn taken in passing, and promotions by pointer and by keys", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "e4", "a5", "e5", "d5");
  await alice.click("e5", "d6");
  for (const tab of [alice, bob]) await tab.untilPieces({ d6: "wp", d5: null, e5: null });
  await bob.type("a4");
  await alice.untilPly(6);
  await alice.play(bob, "dxc7", "a3");

  await alice.dragMove("c7", "b8");
  await alice.page.locator("[data-test=promote-n]").click();
  for (const tab of [alice, bob]) await tab.untilPieces({ b8: "wn", c7: null });
  await bob.type("axb2");
  await alice.untilPly(10);
  await alice.play(bob, "Nf3");

  await bob.keys("b2", "a1");
  await bob.page.locator("#promotion[open]").waitFor();
  await bob.page.keyboard.press("Escape");
  await bob.untilPieces({ b2: "bp", a1: "wr" });
  await bob.keys("b2", "a1");
  await bob.page.locator("[data-test=promote-q]").press("Enter");
  for (const tab of [alice, bob]) await tab.untilPieces({ a1: "bq", b2: null });

  await alice.play(bob, "Be2", "h6");
  await alice.dragMove("e1", "g1");
  for (const tab of [alice, bob]) {
    await tab.untilPieces({ e1: null, f1: "wr", g1: "wk", h1: null });
    // Its own board shows a move before it is confirmed.
    await tab.untilPly(15);
    assert.equal((await tab.sans()).at(-1), "O-O");
  }
});

play("a piece that is dragged is under the pointer, and can be let go", async (stage) => {
  const [alice] = await stage.table({ alice: { viewport: { width: 1100, height: 560 } } });
  // Scrolled, so that the page's and the window's coordinates differ.
  await alice.page.evaluate(() => scrollTo(0, 60));
  await alice.drag("g1", "f3");
  const { x, y, size } = await alice.square("f3");
  const piece = await alice.page.locator(".cm-chessboard-draggable-piece").boundingBox();
  for (const [middle, at] of [[piece.x + piece.width / 2, x], [piece.y + piece.height / 2, y]]) {
    assert.ok(Math.abs(middle - at) < size / 4, `the piece is at ${middle}, the pointer at ${at}`);
  }
  const folder = fileURLToPath(new URL("screenshots/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  await alice.page.screenshot({ path: `${folder}dragged.png` });
  await alice.page.mouse.move(5, 5);
  await alice.page.mouse.up();
  await alice.untilPieces({ g1: "wn", f3: null });
  await alice.untilNotMarked("target");
  await alice.dragMove("g1", "g3");
  await alice.untilPieces({ g1: "wn", g3: null });
});

play("a game on a phone, by touch", async (stage) => {
  const [alice, bob] = await stage.table({ alice: PHONE, bob: PHONE });
  await alice.tap("d2", "d4");
  await bob.untilPieces({ d4: "wp" });
  await bob.tap("g8", "f6");
  await alice.untilPieces({ f6: "bn" });
  const { content, screen } = await alice.page.evaluate(() => ({
    content: document.documentElement.scrollWidth,
    screen: document.documentElement.clientWidth,
  }));
  assert.ok(content <= screen, `the page is ${content} px wide on a screen of ${screen}`);
  const board = await alice.page.locator("#game-board").boundingBox();
  assert.ok(board.width >= 300 && board.y + board.height < 640, "the whole board is on the screen");
});

play("the next piece can be taken in hand as soon as the answer has come", async (stage) => {
  const [alice, bob] = await stage.table({ alice: PHONE });
  for (const [index, file] of [..."abcdefgh"].entries()) {
    await alice.tap(`${file}2`, `${file}3`);
    await bob.untilPly(2 * index + 1);
    await bob.type(`${file}6`);
    await alice.untilPly(2 * index + 2);
  }
});

play("a game that is over is looked at move by move on a phone with the board in sight", async (stage) => {
  const [alice, bob] = await stage.table({ alice: PHONE });
  await alice.play(bob, "e4", "e5");
  await bob.action("resign").dblclick();
  await alice.untilState(/^1 – 0/);
  await alice.page.evaluate(() => scrollTo(0, 0));
  await alice.page.locator("#game-steps [value=back]").tap();
  await alice.untilPieces({ e5: null, e7: "bp" });
  const board = await alice.page.locator("#game-board").boundingBox();
  const { height } = alice.page.viewportSize();
  assert.ok(board.y >= 0 && board.y + board.height <= height, `the board is at ${board.y} of ${height}`);
});

play("moves that aren't legal are refused in words and change nothing", async (stage) => {
  const [alice, bob] = await stage.table();
  for (const move of ["e5", "Ke2", "what"]) {
    await alice.type(move);
    await alice.untilNote(/\S/);
    await alice.untilState("Your turn.");
  }
  await alice.click("e2", "e5");
  await alice.dragMove("a1", "a3");
  await alice.untilPieces({ e2: "wp", e5: null, a1: "wr", a3: null });
  await bob.type("e5");
  await bob.untilNote("It isn't your turn.");
  await bob.click("e7", "e5");
  await bob.untilPieces({ e7: "bp" });
  assert.deepEqual(await bob.marks(), []);
  await alice.play(bob, "e4");
});

play("whoever can't move is told why, as long as it is so", async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ alice: { relay } });
  const note = alice.page.locator("#game-note");
  await alice.play(bob, "e4", "e5");
  await alice.page.locator("#game-steps [value=back]").click();
  await alice.type("Nf3");
  await alice.untilNote(/^This is an earlier position\. Go to the last one to move\.$/);
  await alice.page.locator("#game-steps [value=next]").click();
  assert.equal(await note.innerText(), "");
  relay.silence();
  await alice.page.locator("#move-input").press("Enter");
  await alice.type("d4");
  await alice.untilNote("Your move Nf3 isn't confirmed yet.");
  relay.restore();
  await alice.untilPly(3);
  assert.equal(await note.innerText(), "");
  await alice.type("d4");
  await alice.untilNote("It isn't your turn.");
  await bob.type("Nc6");
  await alice.untilPly(4);
  assert.equal(await note.innerText(), "");
});

play("moves that are typed in another way than they are listed are played, and no word is said", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "E4", "e5!?", "Nf3!", "Nc6", "Bc4", "Nf6", "0-0");
  assert.deepEqual(await alice.sans(), ["e4", "e5", "Nf3", "Nc6", "Bc4", "Nf6", "O-O"]);
  for (const tab of [alice, bob]) {
    assert.equal(await tab.page.locator("#game-note").innerText(), "");
    assert.equal(await tab.page.locator("#game-error").innerText(), "");
  }
});

play("a move that a later change names again is listed once", async (stage) => {
  const [alice] = await stage.table();
  const listed = await alice.page.evaluate(async () => {
    const { Game } = await import("/position.js");
    const move = { uci: "e2e4", san: "e4" };
    const game = new Game({ version: 1, ply: 0, moves: [] });
    return [{ version: 2, ply: 1, move }, { version: 3, ply: 1, move }].map((change) => {
      game.apply(change);
      return game.moves.length;
    });
  });
  assert.deepEqual(listed, [1, 1]);
});

play("looking back at a game, and turning the board", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "e4", "d5", "exd5");
  await alice.page.locator("[data-test=san][data-ply='1']").click();
  await alice.untilPieces({ e4: "wp", d7: "bp", d5: null });
  await alice.page.locator("#game-steps [value=first]").click();
  await alice.untilPieces({ e2: "wp", e4: null });
  // The game goes on meanwhile, and is not disturbed.
  await bob.type("Qxd5");
  await alice.untilPly(4);
  await alice.untilPieces({ e2: "wp", d8: "bq" });
  await alice.click("e2", "e4");
  await alice.page.locator("#game-steps [value=last]").click();
  await alice.untilPieces({ d5: "bq", e2: null });
  await alice.page.locator("#flip").click();
  assert.equal(await alice.bottom(), "black");
  await alice.play(bob, "Nc3");
});

play("a flag falls though nobody is there", async (stage) => {
  const [alice, bob] = await stage.table({ initial_ms: 1_500 });
  const game = alice.game;
  await alice.close();
  await bob.close();
  const carol = await stage.guest("Carol");
  await carol.page.locator("#no-games").waitFor();
  await carol.openGame(game);
  await carol.untilState(/^0 – 1\. .*time/i);
  assert.equal(await carol.clock("white"), 0);
});

play("a flag falls while both look on", async (stage) => {
  const [alice, bob] = await stage.table({ initial_ms: 1_500 });
  for (const tab of [alice, bob]) await tab.untilState(/^0 – 1\. .*time/i);
});

play("resigning is asked about, and ends the game", async (stage) => {
  const [alice, bob] = await stage.table();
  await bob.action("resign").click();
  assert.equal(await bob.action("resign").innerText(), "Really resign?");
  await bob.action("resign").click();
  for (const tab of [alice, bob]) await tab.untilState(/^1 – 0\. .*resign/i);
  assert.equal(await bob.action("resign").isVisible(), false);
});

play("a draw is offered, declined by a move, offered again and accepted", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.action("draw").click();
  await bob.page.locator("#action-note", { hasText: "Alice offers a draw." }).waitFor();
  await bob.action("decline_draw").click();
  await alice.page.locator("#action-note:empty").waitFor({ state: "attached" });
  await alice.type("e4");
  await bob.untilPly(1);
  await bob.action("draw").click();
  await alice.action("draw").filter({ hasText: "Accept the draw" }).click();
  for (const tab of [alice, bob]) await tab.untilState(/^½ – ½\. .*agreement/i);
});

play("a rematch takes both to one new game, with colours changed", async (stage) => {
  const [alice, bob] = await stage.table();
  const carol = await stage.guest("Carol");
  await carol.openGame(alice.game);
  const first = alice.game;
  await alice.action("resign").dblclick();
  await bob.untilState(/resign/i);
  await alice.action("rematch").click();
  await alice.action("decline_rematch").filter({ hasText: "Withdraw" }).waitFor();
  // Nothing has taken its place under the pointer.
  assert.equal(await alice.action("rematch").isDisabled(), true);
  assert.equal(await alice.action("rematch").isVisible(), true);
  await bob.action("decline_rematch").click();
  for (const tab of [alice, bob]) await tab.action("decline_rematch").waitFor({ state: "hidden" });
  // Both at the same moment.
  await Promise.all([alice.action("rematch").click(), bob.action("rematch").click()]);
  for (const tab of [alice, bob]) await tab.page.waitForURL((url) => url.pathname.startsWith("/game/") && !url.pathname.endsWith(first));
  assert.equal(alice.game, bob.game);
  for (const tab of [alice, bob]) await tab.untilAtGame(alice.game);
  await alice.page.locator("#side-bottom[data-color=black]").waitFor();
  await bob.play(alice, "e4");
  await carol.page.locator("#next-game").click();
  await carol.untilAtGame(bob.game);
  await carol.untilPly(1);
});

play("no rematch with somebody who has left", async (stage) => {
  const [alice, bob] = await stage.table();
  await bob.action("resign").dblclick();
  await alice.untilState(/resign/i);
  await alice.page.locator("#actions button[value=rematch]:enabled").waitFor();
  await bob.close();
  await alice.page.locator("#actions button[value=rematch]:disabled").waitFor();
  await alice.page.locator("#action-note", { hasText: "Bob has left." }).waitFor();
}, { LINGER_MS: "100" });

play("two tabs of one player are one player", async (stage) => {
  const [alice, bob] = await stage.table();
  const second = await alice.another();
  await second.openGame(alice.game);
  await second.untilState("Your turn.");
  await second.click("e2", "e4");
  for (const tab of [alice, bob]) await tab.untilPieces({ e4: "wp" });
  await bob.type("e5");
  await alice.untilPly(2);
  await alice.close();
  await second.play(bob, "Nf3", "Nc6");
  await bob.untilStatus("white", "here");
  await second.setVisibility("hidden");
  await bob.untilStatus("white", "away");
}, { LINGER_MS: "100" });

play("the second of two different moves for one turn is refused, and said", async (stage) => {
  const [alice, bob] = await stage.table();
  const second = await alice.another();
  await second.openGame(alice.game);
  // The site stands still while both are sent.
  stage.chess.pause();
  await alice.click("e2", "e4");
  await alice.untilPieces({ e4: "wp", e2: null });
  await alice.untilMarked("pending e2", "pending e4");
  await second.click("d2", "d4");
  await second.untilMarked("pending d4");
  stage.chess.resume();
  await bob.untilPly(1);
  const [played] = await bob.sans();
  const [winner, loser] = played === "e4" ? [alice, second] : [second, alice];
  await loser.untilNote(/position has changed/i);
  const expected = played === "e4" ? { e4: "wp", d2: "wp", d4: null } : { d4: "wp", e2: "wp", e4: null };
  for (const tab of [winner, loser, bob]) {
    await tab.untilPieces(expected);
    await tab.untilNotMarked("pending");
    assert.deepEqual(await tab.sans(), [played]);
  }
}, { PING_MS: "20000" });

play("a newcomer alone plays a bot", async (stage) => {
  const alice = await stage.guest("Alice");
  await alice.page.locator("[data-test=bot]").first().waitFor();
  assert.deepEqual(await alice.people(), { Alice: "here" });
  assert.equal(await alice.page.locator("#count").innerText(), "1 person");
  await alice.page.locator("[data-test=bot] button").first().click();
  await alice.page.locator("#offer-cancel").click();
  await alice.page.locator("#offer").waitFor({ state: "hidden" });
  await alice.page.locator("[data-test=bot] button").first().click();
  await alice.page.locator("#offer label", { hasText: "White" }).click();
  await alice.page.keyboard.press("Enter");
  await alice.untilAtGame();
  await alice.untilStatus("black", "here");
  await alice.untilState("Your turn.");
  await alice.click("e2", "e4");
  await alice.untilPly(2);
  await alice.untilState("Your turn.");
  await alice.type("d4");
  await alice.untilPly(4);
}, { BOTS: "true", BOT_MS: "50" });
