// The lobby's offers: invites, seeks, and what people see of each other's games.

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { launchBrowser, scene } from "./lib/scene.mjs";

let browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

const play = (title, script, settings) => scene(title, () => browser, script, settings);

async function invite(tab, name, color = "Either") {
  await tab.page.locator("[data-test=person]", { hasText: name }).locator("button").click();
  await tab.page.locator("#offer label", { hasText: color }).click();
  await tab.page.locator("#offer-submit").click();
}

const invites = (tab) => tab.page.locator("[data-test=invite]");
const seeks = (tab) => tab.page.locator("[data-test=seek]");

/** Resolves once a locator matches so many elements. */
async function untilCount(locator, count) {
  if (count > 0) await locator.nth(count - 1).waitFor();
  await locator.nth(count).waitFor({ state: "detached" });
}

play("an invite is declined, withdrawn, and accepted", async (stage) => {
  const alice = await stage.guest("Alice");
  const bob = await stage.guest("Bob");
  const carol = await stage.guest("Carol");
  await invite(alice, "Bob", "Black");
  await invites(bob).getByText("5 + 3, you play white").waitFor();
  await untilCount(invites(carol), 0);
  await bob.page.locator("[data-test=decline]").click();
  await alice.page.locator("#lobby-note", { hasText: "Bob has declined your invite." }).waitFor();
  for (const tab of [alice, bob]) await untilCount(invites(tab), 0);

  await invite(alice, "Bob");
  await untilCount(invites(bob), 1);
  await alice.page.locator("[data-test=withdraw]").click();
  await bob.page.locator("#lobby-note", { hasText: "Alice has withdrawn the invite." }).waitFor();
  await untilCount(invites(bob), 0);

  await invite(alice, "Bob", "Black");
  await bob.page.locator("[data-test=accept]").click();
  for (const tab of [alice, bob]) await tab.untilAtGame();
  assert.equal(alice.game, bob.game);
  assert.equal(await alice.bottom(), "black");
  await bob.play(alice, "e4");
});

play("whoever accepts is at the game at once, and whoever reads their own page meanwhile is told", async (stage) => {
  const alice = await stage.guest("Alice");
  const bob = await stage.guest("Bob");
  await invite(alice, "Bob");
  for (const tab of [alice, bob]) {
    await tab.page.locator(".me-name").click();
    await tab.page.locator("#no-past").waitFor();
  }
  await bob.page.locator("[data-test=accept]").click();
  await bob.untilAtGame();
  await alice.page.locator("#my-game a").click();
  await alice.untilAtGame(bob.game);
});

play("an invite is in sight and said wherever one is on the site", async (stage) => {
  const [dave] = await stage.table({ names: ["Dave", "Erin"] });
  const alice = await stage.guest("Alice");
  const bob = await stage.guest("Bob", { viewport: { width: 360, height: 300 } });
  const { page } = bob;
  const views = {
    "the lobby": () => bob.untilInLobby(),
    "the own page": () => page.locator(".me-name").click(),
    "a game": () => bob.openGame(dave.game),
  };
  for (const [view, go] of Object.entries(views)) {
    await go();
    await page.waitForFunction(() => !/invite/.test(document.title));
    // The end of the own page comes with its games.
    await page.waitForFunction(() => {
      scrollTo(0, document.body.scrollHeight);
      return scrollY > 50;
    });
    await invite(alice, "Bob", "Black");
    await page.waitForFunction(() => /^Alice invites you – ./.test(document.title));
    await page.locator("#invited[role=status]", { hasText: /^Alice invites you: 5 \+ 3, you play white\.$/ }).waitFor();
    const seen = await page.locator("[data-test=accept]").boundingBox();
    assert.ok(await page.evaluate(() => scrollY > 50), `${view} is scrolled`);
    assert.ok(seen.y >= 0 && seen.y + seen.height <= 300, `the invite is at ${seen.y} in ${view}`);
    await page.locator("[data-test=decline]").click();
    await page.waitForFunction(() => !/invite/.test(document.title));
    await page.locator("#invited:empty").waitFor({ state: "attached" });
  }
});

play("a tap beside the terms gives them up, and one on their rim doesn't", async (stage) => {
  const { page } = await stage.guest("Alice");
  const dialog = page.locator("#offer");
  await page.locator("#open-seek").click();
  const { x, y, width, height } = await dialog.boundingBox();
  await page.mouse.click(x + 6, y + height / 2);
  await page.mouse.click(x + width / 2, y + height - 6);
  // Pressed inside, and let go beside it.
  await page.mouse.move(x + width / 2, y + 10);
  await page.mouse.down();
  await page.mouse.move(x + width / 2, y - 20);
  await page.mouse.up();
  assert.ok(await dialog.isVisible());
  await page.mouse.click(x - 20, y + height / 2);
  await dialog.waitFor({ state: "hidden" });
  await page.locator("#open-seek").click();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
});

play("an invite expires, and goes with whoever leaves", async (stage) => {
  const alice = await stage.guest("Alice");
  const bob = await stage.guest("Bob");
  await invite(alice, "Bob");
  await untilCount(invites(bob), 1);
  await alice.page.locator("#lobby-note", { hasText: "Bob hasn't answered your invite." }).waitFor();
  for (const tab of [alice, bob]) await untilCount(invites(tab), 0);

  await invite(bob, "Alice");
  await untilCount(invites(alice), 1);
  await bob.close();
  await untilCount(invites(alice), 0);
}, { INVITE_MS: "5000", LINGER_MS: "100" });

play("a seek is seen by all, taken by another, and gone with its owner", async (stage) => {
  const alice = await stage.guest("Alice");
  const bob = await stage.guest("Bob");
  const openSeek = async (tab) => {
    await tab.page.locator("#open-seek").click();
    await tab.page.locator("#offer label", { hasText: "3 + 2" }).click();
    await tab.page.locator("#offer-submit").click();
  };
  await openSeek(alice);
  for (const tab of [alice, bob]) await untilCount(seeks(tab), 1);
  // One's own can be closed, not taken.
  await untilCount(alice.page.locator("[data-test=take]"), 0);
  await alice.reload();
  await untilCount(seeks(alice), 1);
  await alice.page.locator("[data-test=unseek]").click();
  for (const tab of [alice, bob]) await untilCount(seeks(tab), 0);

  await openSeek(bob);
  await untilCount(seeks(alice), 1);
  await bob.close();
  await untilCount(seeks(alice), 0);

  await openSeek(alice);
  const carol = await stage.guest("Carol");
  await carol.page.locator("[data-test=take]").click();
  for (const tab of [alice, carol]) await tab.untilAtGame();
  assert.equal(alice.game, carol.game);
  const dave = await stage.guest("Dave");
  await untilCount(dave.page.locator("[data-test=running]"), 1);
  await untilCount(seeks(dave), 0);
}, { LINGER_MS: "6000" });

play("who plays and who watches is seen in the lobby, and holds through a lost connection", async (stage) => {
  const relay = await stage.relay();
  const dave = await stage.guest("Dave");
  const [alice, bob] = await stage.table({ alice: { relay } });
  const carol = await stage.guest("Carol");
  await carol.openGame(bob.game);
  await dave.untilPeople({ Alice: "playing", Bob: "playing", Carol: "watching", Dave: "here" });
  await dave.page.locator("[data-test=game-details]", { hasText: "1 watching" }).waitFor();
  // Back in the lobby they still play.
  await alice.page.locator(".brand").click();
  await alice.page.locator("#my-game a").waitFor();
  await alice.watchConnection();
  relay.restore();
  await alice.untilReconnected();
  for (const tab of [alice, dave]) {
    await tab.untilPeople({ Alice: "playing", Bob: "playing", Carol: "watching", Dave: "here" });
  }
  await alice.page.locator("#my-game a").click();
  await alice.untilAtGame(bob.game);
  await carol.page.locator(".brand").click();
  await dave.untilPeople({ Alice: "playing", Bob: "playing", Carol: "here", Dave: "here" });
  await alice.action("resign").dblclick();
  await dave.untilPeople({ Alice: "here", Bob: "here", Carol: "here", Dave: "here" });
  await dave.page.locator("#no-games").waitFor();
}, { LINGER_MS: "300" });

play("everyone sees the same spectators, come and gone", async (stage) => {
  const [alice, bob] = await stage.table();
  const watchers = [];
  for (const name of ["Carol", "Dave", "Erin"]) {
    const tab = await stage.guest(name);
    await tab.openGame(alice.game);
    watchers.push(tab);
  }
  const crowdIs = (tab, text) => tab.page.locator("[data-test=crowd]", { hasText: text }).waitFor();
  for (const tab of [alice, bob, ...watchers]) {
    await crowdIs(tab, /^Watching \(3\): /);
    const names = await tab.page.locator("[data-test=crowd] .name").allInnerTexts();
    assert.deepEqual(names.sort(), ["Carol", "Dave", "Erin"]);
  }
  // Two tabs of one are one; a player isn't among them.
  const second = await watchers[0].another();
  await second.openGame(alice.game);
  const third = await alice.another();
  await third.openGame(alice.game);
  await watchers[2].close();
  for (const tab of [alice, bob, second]) await crowdIs(tab, /^Watching \(2\): /);
  await watchers[1].page.locator(".brand").click();
  for (const tab of [alice, bob, second]) await crowdIs(tab, /^Watching \(1\): Carol$/);
}, { LINGER_MS: "100" });

play("people are found by name", async (stage) => {
  const alice = await stage.guest("Alice");
  for (const name of ["Bob", "Robert", "Carol"]) await stage.guest(name);
  await alice.untilPeople({ Alice: "here", Bob: "here", Robert: "here", Carol: "here" });
  assert.equal(await alice.page.locator("#count").innerText(), "4 people");
  await alice.page.locator("#search").fill("ob");
  await alice.untilPeople({ Bob: "here", Robert: "here" });
  await alice.page.locator("#search").fill("zed");
  await alice.page.locator("#nobody").waitFor();
});
