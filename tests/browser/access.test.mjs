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
