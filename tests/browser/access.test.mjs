// Every page and state of the chess site, for people who read by ear, by keys, enlarged, on a phone or in the dark.

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { hindrances, smallTargets, tooWide } from "./lib/axe.mjs";
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
