// Every page and state of the chess site, for people who read by ear, by keys, enlarged, on a phone or in the dark.

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { hindrances, smallTargets, tooWide } from "./lib/axe.mjs";
import { distance, picture } from "./lib/pixels.mjs";
import { launchBrowser, scene } from "./lib/scene.mjs";

let browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

const SCHEMES = ["light", "dark"];
const SIZES = [{ width: 360, height: 740 }, { width: 1280, height: 800 }];

/** Looks at one page in both schemes and sizes. */
async function inspect(tab, state) {
  const { page } = tab;
  const found = [];
  for (const viewport of SIZES) {
    for (const colorScheme of SCHEMES) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      for (const line of await hindrances(page)) found.push(`${state}, ${colorScheme}, ${viewport.width} px: ${line}`);
    }
    for (const line of await smallTargets(page)) found.push(`${state}, ${viewport.width} px, too small to hit: ${line}`);
  }
  // A small phone; and 1280 px at 400 %, or 640 px at 200 %, look the same to a page.
  await page.setViewportSize({ width: 320, height: 568 });
  for (const line of await tooWide(page)) found.push(`${state} scrolls sideways at 320 px: ${line}`);
  await page.setViewportSize(SIZES[1]);
  await page.emulateMedia({ colorScheme: null });
  assert.deepEqual(found, []);
}

scene("nothing hinders at the door", () => browser, async (stage) => {
  const alice = await stage.visitor();
  await alice.untilAtDoor();
  await inspect(alice, "door");
  await alice.choose("x".repeat(25));
  await alice.untilRefused();
  await alice.page.locator("#with-password summary").click();
  await inspect(alice, "a refused name");
});

scene("nothing hinders in the lobby", () => browser, async (stage) => {
  const carol = await stage.guest("Carol");
  await inspect(carol, "nobody else");
  const [alice, bob] = await stage.table();
  await alice.play(bob, "e4", "e5");
  const dave = await stage.guest("Dave");
  await dave.ask("seek", { color: "random", initial_ms: 300_000, increment_ms: 3_000 });
  await dave.ask("invite", { to: (await carol.me()).id, color: "white", initial_ms: 60_000, increment_ms: 0 });
  for (const what of ["running", "seek", "invite"]) await carol.page.locator(`[data-test=${what}]`).first().waitFor();
  await inspect(carol, "lobby");
  await carol.page.locator("#sign-out").click();
  await carol.page.locator("#leaving[open]").waitFor();
  await inspect(carol, "asking before the name is given up");
  await carol.page.keyboard.press("Escape");
  await carol.page.locator("#open-seek").click();
  await inspect(carol, "asking for terms");
}, { BOTS: "true" });

scene("nothing hinders in a game, and on one's own page", () => browser, async (stage) => {
  const [alice, bob] = await stage.table();
  const carol = await stage.guest("Carol");
  await carol.openGame(alice.game);
  await inspect(alice, "before the first move");
  await alice.play(bob, "e4", "d5", "exd5", "Nf6");
  await alice.click("d5");
  await alice.untilMarked("target d6");
  await inspect(alice, "a piece is held");
  await bob.action("draw").click();
  await alice.action("decline_draw").waitFor();
  await inspect(alice, "a draw is offered");
  await inspect(carol, "spectator");
  await bob.close();
  await alice.page.locator(".side[data-color=black]:is([data-status=lost], [data-status=gone])").waitFor();
  await inspect(alice, "the opponent is gone");
  await alice.action("resign").click();
  await alice.action("resign").click();
  for (const tab of [alice, carol]) await tab.untilState(/0 – 1/);
  await inspect(alice, "over");
  await alice.page.locator("#game-steps [value=back]").click();
  await inspect(alice, "replay");
  await alice.page.locator("#my-name").click();
  await alice.page.locator("[data-test=past]").waitFor();
  await inspect(alice, "own page");
});

scene("nothing hinders while one is asked, or something is amiss in a game", () => browser, async (stage) => {
  const relay = await stage.relay();
  const [alice, bob] = await stage.table({ alice: { relay } });
  await alice.play(bob, "h4", "g5", "hxg5", "h6", "gxh6", "a6", "h7", "a5");
  await alice.click("h7", "g8");
  await alice.page.locator("#promotion[open]").waitFor();
  await inspect(alice, "a promotion");
  await alice.page.keyboard.press("Escape");
  // It asks for longer than the looking takes.
  await bob.page.evaluate(() => {
    const later = window.setTimeout;
    window.setTimeout = (then, time, ...given) => later(then, 1_000 * time, ...given);
  });
  await bob.action("resign").click();
  await inspect(bob, "really resign");
  assert.equal(await bob.action("resign").innerText(), "Really resign?");
  await bob.reload();
  await bob.untilAtGame();
  await alice.type("e5");
  await alice.untilNote(/\S/);
  await inspect(alice, "a move that isn't legal");
  relay.silence();
  await alice.click("a2", "a3");
  await alice.untilMarked("pending a3");
  await alice.untilConnection("lost");
  await inspect(alice, "the connection is lost, and a move isn't confirmed");
  relay.restore();
  await bob.untilPly(9);
  await alice.untilConnection("online");
  await bob.action("resign").dblclick();
  await alice.untilState(/^1 – 0/);
  await bob.action("rematch").click();
  await alice.action("decline_rematch").waitFor();
  await inspect(alice, "a rematch is offered");
});

scene("nothing hinders where there is nothing, or the site refuses", () => browser, async (stage) => {
  // The shortest name is a link as well.
  const alice = await stage.guest("I");
  const { page } = alice;
  await page.locator("#search").fill("zed");
  await page.locator("#nobody").waitFor();
  await inspect(alice, "nobody is found");
  await page.goto(`${stage.chess.url}game/unheard-of`);
  await page.locator("#lobby-note", { hasText: "no such game" }).waitFor();
  await inspect(alice, "no such game");
  await page.locator("#my-name").click();
  await page.locator("#no-past").waitFor();
  await page.locator("#new-password").fill("short");
  await page.locator("#new-password").press("Enter");
  await page.locator("#password-note", { hasText: "at least 8 characters" }).waitFor();
  await inspect(alice, "an own page without games, and a refused password");
  await page.locator(".brand").click();
  await alice.untilInLobby();
  await stage.chess.kill();
  await stage.chess.start({ ORIGIN: "http://chess.example" });
  await alice.untilConnection("refused");
  await inspect(alice, "the site refuses the address");
});

scene("whoever goes to another view is led to its heading, but not while typing", () => browser, async (stage) => {
  const alice = await stage.visitor();
  const { page } = alice;
  const untilFocused = (id) => page.waitForFunction((id) => document.activeElement.id === id, id);
  await alice.choose("Alice");
  await untilFocused("lobby-title");
  const bob = await stage.guest("Bob");
  await stage.seat(alice, bob);
  await untilFocused("game-title");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Alice – Bob");
  await page.locator(".me-name").click();
  await untilFocused("account-title");
  await page.goBack();
  await untilFocused("game-title");
  await page.locator(".brand").click();
  await untilFocused("lobby-title");
  // Whoever opens a page is where they are.
  await page.reload();
  await alice.untilInLobby();
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "BODY");

  // The heading of a game comes late on a slow network.
  await page.locator("#my-game a").click();
  await alice.untilAtGame();
  await page.locator(".brand").click();
  await untilFocused("lobby-title");
  stage.chess.pause();
  await page.locator("#my-game a").click();
  await page.locator("#move-input").fill("e");
  stage.chess.resume();
  await alice.untilAtGame();
  assert.equal(await page.evaluate(() => document.activeElement.id), "move-input");
}, { PING_MS: "20000" });

/** How far apart what means different things has to be, at least. */
const APART = 40;

scene("in forced colours the board is read as well", () => browser, async (stage) => {
  const [alice, bob] = await stage.table();
  const { page } = alice;
  await page.emulateMedia({ forcedColors: "active" });
  assert.ok(await page.evaluate(() => matchMedia("(forced-colors: active)").matches));
  const board = () => picture(page, ".game-board");
  const quiet = await board();
  const corner = (name) => ["abcdefgh".indexOf(name[0]) / 8, (8 - Number(name[1])) / 8];
  const part = (seen, name, left, top, right, bottom) => {
    const [x, y] = corner(name);
    return seen.tone(x + left / 8, y + top / 8, x + right / 8, y + bottom / 8);
  };
  /** A square beside its piece and its edge, and its middle. */
  const ground = (seen, name) => part(seen, name, 0.75, 0.12, 0.88, 0.22);
  const middle = (seen, name) => part(seen, name, 0.3, 0.35, 0.7, 0.75);
  const edge = (seen, name) => part(seen, name, 0.3, 0.0, 0.7, 0.05);
  const differ = (a, b, what) => assert.ok(distance(a, b) >= APART, `${what}: ${a} and ${b}`);

  differ(ground(quiet, "e4"), ground(quiet, "d4"), "light and dark squares");
  differ(middle(quiet, "e2"), middle(quiet, "e7"), "white and black pieces");
  // White and black, on light and dark.
  for (const square of ["e2", "d2", "e7", "d7"]) {
    const [x, y] = corner(square);
    const share = quiet.share(ground(quiet, square), APART, x, y, x + 1 / 8, y + 1 / 8);
    assert.ok(share > 0.05, `a piece on ${square} covers ${share} of it`);
  }

  await alice.play(bob, "e4", "e5", "Qh5", "Nc6", "Qxf7+");
  await alice.untilMarked("last h5", "last f7", "check e8");
  const after = await board();
  differ(ground(after, "h5"), ground(quiet, "h5"), "where the last move came from");
  differ(ground(after, "f7"), ground(quiet, "f7"), "where it went");
  differ(ground(after, "e8"), ground(quiet, "e8"), "a king in check");
  differ(ground(after, "e8"), ground(after, "f7"), "a check and the last move");

  await page.locator("svg.cm-chessboard").focus();
  await page.keyboard.press("ArrowUp");
  const square = await page.locator(".cursor").evaluate((cursor) => {
    const board = cursor.ownerSVGElement.getBoundingClientRect();
    const { left, top, width } = cursor.getBoundingClientRect();
    const file = Math.round((left - board.left) / width);
    return `${"abcdefgh"[file]}${8 - Math.round((top - board.top) / width)}`;
  });
  differ(edge(await board(), square), edge(after, square), `the cursor on ${square}`);
  await stage.photograph("forced colours");
});

scene("in forced colours a running clock, what is held and what is chosen are told apart", () => browser, async (stage) => {
  const forced = { forcedColors: "active", reducedMotion: "reduce" };
  const carol = await stage.guest("Carol", forced);
  const [alice, bob] = await stage.table({ alice: forced });
  const { page } = alice;
  const differ = (a, b, what) => assert.ok(distance(a, b) >= APART, `${what}: ${a} and ${b}`);
  /** What is chosen, or runs, has an outline: its background is the system's, as that of all others is. */
  const assertOutlined = async (tab, one, other, what) => {
    const outlines = [one, other].map((selector) =>
      tab.page.locator(selector).first().evaluate((element) => {
        const { outlineStyle, outlineWidth } = getComputedStyle(element);
        return outlineStyle === "none" ? "none" : `${outlineWidth} ${outlineStyle}`;
      }),
    );
    assert.deepEqual(await Promise.all(outlines), ["3px solid", "none"], what);
  };

  const clock = (color, running) => `.side[data-color=${color}][data-running=${running}] .clock`;
  await page.locator(clock("white", true)).waitFor();
  await assertOutlined(alice, clock("white", true), clock("black", false), "the clock that runs");
  await alice.play(bob, "h4");
  await page.locator(clock("black", true)).waitFor();
  await assertOutlined(alice, clock("black", true), clock("white", false), "the clock that runs after a move");
  await bob.play(alice, "g5", "hxg5", "h6", "gxh6", "a6", "h7", "a5");

  // Two dark squares: of the last move, and of the piece that is held.
  const ground = async (name) => {
    const [left, top] = ["abcdefgh".indexOf(name[0]) / 8, (8 - Number(name[1])) / 8];
    return (await picture(page, ".game-board")).tone(left + 0.75 / 8, top + 0.12 / 8, left + 0.88 / 8, top + 0.22 / 8);
  };
  const free = await ground("g1");
  await alice.click("g1");
  await alice.untilMarked("held g1", "target f3", "last a5");
  differ(await ground("g1"), free, "a piece that is held");
  differ(await ground("g1"), await ground("a5"), "a piece that is held, and the last move");

  await assertOutlined(alice, "#moves [aria-current=true]", "#moves [data-ply='2']", "the move that is shown");
  await page.locator("#sound").click();
  await assertOutlined(alice, "#sound", "#flip", "sound that is on");

  await alice.click("h7", "g8");
  await page.locator("#promotion[open]").waitFor();
  const choice = await picture(page, "[data-test=promote-n]");
  differ(choice.tone(0.45, 0.5, 0.55, 0.6), choice.tone(0.08, 0.08, 0.12, 0.12), "a piece to choose, and its button");
  await page.keyboard.press("Escape");

  // In the lobby: who is here and who is away, which colour is whose, and the terms that are chosen.
  await carol.untilPeople({ Alice: "playing", Bob: "playing", Carol: "here" });
  /** The tones of the middle of one's own dot, and of what is beside it. */
  const dot = async () => {
    const seen = await picture(carol.page, ".me-row .status");
    const tone = (left, right) => seen.tone(left / seen.width, 0.45, right / seen.width, 0.55);
    return { middle: tone(4, 6), beside: tone(12, 14) };
  };
  const here = await dot();
  differ(here.middle, here.beside, "the dot of somebody who is here");
  await carol.setVisibility("hidden");
  await carol.untilPeople({ Alice: "playing", Bob: "playing", Carol: "away" });
  differ(here.middle, (await dot()).middle, "who is here, and who is away");
  await carol.setVisibility("visible");
  const discs = ["white", "black"].map(async (color) => (await picture(carol.page, `[data-test=running] .disc.${color}`)).tone(0.4, 0.4, 0.6, 0.6));
  differ(...(await Promise.all(discs)), "white and black");
  await carol.page.locator("#open-seek").click();
  await assertOutlined(carol, "#offer label:has([value='5+3'])", "#offer label:has([value='3+2'])", "the terms that are chosen");
});
