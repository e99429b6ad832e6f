// Makes the pictures of README.md and of docs/chess-on-a-phone.md.

import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { Chess } from "./lib/chess.mjs";
import { Scene, launchBrowser } from "./lib/scene.mjs";

const FOLDER = fileURLToPath(new URL("../../docs/screenshots/", import.meta.url));
const DESKTOP = { viewport: { width: 1280, height: 800 }, colorScheme: "light", reducedMotion: "reduce" };
const DARK = { ...DESKTOP, colorScheme: "dark" };
const PHONE = {
  viewport: { width: 360, height: 740 },
  deviceScaleFactor: 1.5,
  isMobile: true,
  hasTouch: true,
  colorScheme: "light",
  reducedMotion: "reduce",
};

async function take(tab, name) {
  await tab.page.evaluate(() => document.activeElement?.blur());
  await tab.page.screenshot({ path: `${FOLDER}${name}.png`, animations: "disabled" });
}

/** The lobby, a game, and both in the dark. */
async function pictures(stage) {
  const grace = await stage.guest("Grace", DARK);
  const [ada, ben] = await stage.table({ alice: DESKTOP, names: ["Ada", "Ben"], increment_ms: 3_000 });
  const mei = await stage.guest("Zoë", DESKTOP);
  const { page } = mei;
  await grace.ask("seek", { color: "random", initial_ms: 600_000, increment_ms: 5_000 });
  await grace.ask("invite", { to: (await mei.me()).id, color: "white", initial_ms: 180_000, increment_ms: 2_000 });
  const spectator = await stage.guest("Olu", DARK);
  await spectator.openGame(ada.game);
  await ada.play(ben, "e4", "e5", "Nf3", "Nc6", "Bb5", "a6", "Bxc6", "dxc6", "O-O", "Bg4", "h3", "Bxf3", "Qxf3", "Qf6", "Qb3", "O-O-O");
  await ada.click("d2");
  await ada.untilMarked("target d4");
  await take(ada, "game");
  for (const what of ["running", "seek", "invite"]) await page.locator(`[data-test=${what}]`).first().waitFor();
  await page.locator("#live-board").waitFor();
  await take(mei, "lobby");
  await take(spectator, "dark");
}

/** Somebody new, on a phone: meets a friend, plays to the end, finds the game again. */
async function walk(stage) {
  const ada = await stage.visitor(PHONE);
  await ada.untilAtDoor();
  await take(ada, "walk-1-door");
  await ada.choose("Ada");
  await ada.untilInLobby();
  const ben = await stage.guest("Ben", PHONE);
  const invite = ada.page.getByRole("button", { name: "Invite Ben" });
  await invite.waitFor();
  await invite.scrollIntoViewIfNeeded();
  await take(ada, "walk-2-lobby");
  await invite.tap();
  await ada.page.locator("#offer label", { hasText: "Black" }).tap();
  await take(ada, "walk-3-terms");
  await ada.page.locator("#offer-submit").tap();
  const accept = ben.page.locator("[data-test=accept]");
  await accept.waitFor();
  await take(ben, "walk-4-invited");
  await accept.tap();
  for (const tab of [ada, ben]) await tab.untilAtGame();
  await ben.tap("f2", "f3");
  await ada.untilPly(1);
  await ada.tap("e7", "e5");
  await ben.untilPly(2);
  await ben.tap("g2", "g4");
  await ada.untilPly(3);
  await ada.untilState("Your turn.");
  await ada.tap("d8");
  await ada.untilMarked("target h4");
  await take(ada, "walk-5-turn");
  await ada.tap("h4");
  await ada.untilState(/^0 – 1/);
  await take(ada, "walk-6-over");
  await ada.page.locator("#my-name").tap();
  await ada.page.locator("[data-test=past]").waitFor();
  await take(ada, "walk-7-own-page");
  await ada.page.locator("[data-test=past] a").first().tap();
  await ada.untilAtGame();
  await ada.page.locator("#game-steps [value=back]").tap();
  await ada.page.locator(".pieces g[data-square=d8][data-piece=bq]").waitFor();
  await take(ada, "walk-8-again");
}

/** A game on a phone. */
async function phone(stage) {
  const [ada, ben] = await stage.table({ names: ["Ada", "Ben"], bob: PHONE });
  await ada.play(ben, "d4", "d5", "c4", "e6", "Nc3", "Nf6", "Bg5");
  await ben.untilState("Your turn.");
  await take(ben, "phone");
}

mkdirSync(FOLDER, { recursive: true });
const browser = await launchBrowser();
try {
  for (const play of [pictures, phone, walk]) {
    const stage = new Scene(browser, new Chess({ BOTS: "true" }));
    try {
      await stage.chess.start();
      await play(stage);
      stage.assertNoErrors();
    } finally {
      await stage.end();
    }
  }
} finally {
  await browser.close();
}
