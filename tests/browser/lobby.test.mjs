// The lobby of the chess site, as people see it who come and go with real browsers.

import assert from "node:assert/strict";
import { after, before } from "node:test";

import { launchBrowser, scene } from "./lib/scene.mjs";

let browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

const play = (title, script) => scene(title, () => browser, script);

play("two people see each other come and go", async (stage) => {
  const alice = await stage.guest("Alice");
  await alice.untilPeople({ Alice: "here" });
  const bob = await stage.guest("Bob");
  for (const tab of [alice, bob]) await tab.untilPeople({ Alice: "here", Bob: "here" });
  await bob.close();
  await alice.untilPeople({ Alice: "here" });
});

play("somebody at the door is not in the lobby", async (stage) => {
  const alice = await stage.guest("Alice");
  const stranger = await stage.visitor();
  await stranger.untilAtDoor();
  const bob = await stage.guest("Bob");
  for (const tab of [alice, bob]) await tab.untilPeople({ Alice: "here", Bob: "here" });
  assert.deepEqual(await stranger.people(), {});
});

play("two tabs are one person", async (stage) => {
  const alice = await stage.guest("Alice");
  const bob = await stage.guest("Bob");
  const second = await alice.another();
  for (const tab of [alice, second, bob]) await tab.untilPeople({ Alice: "here, 2 tabs", Bob: "here" });
  await alice.close();
  for (const tab of [second, bob]) await tab.untilPeople({ Alice: "here", Bob: "here" });
  await second.close();
  await bob.untilPeople({ Bob: "here" });
});

play("away is who has hidden every tab", async (stage) => {
  const alice = await stage.guest("Alice");
  const bob = await stage.guest("Bob");
  await alice.setVisibility("hidden");
  for (const tab of [alice, bob]) await tab.untilPeople({ Alice: "away", Bob: "here" });

  const second = await alice.another();
  await bob.untilPeople({ Alice: "here, 2 tabs", Bob: "here" });
  await second.setVisibility("hidden");
  await bob.untilPeople({ Alice: "away, 2 tabs", Bob: "here" });
  await alice.setVisibility("visible");
  await bob.untilPeople({ Alice: "here, 2 tabs", Bob: "here" });
  await alice.close();
  await bob.untilPeople({ Alice: "away", Bob: "here" });
});

play("a reload keeps the name and counts once", async (stage) => {
  const alice = await stage.guest("Alice");
  const bob = await stage.guest("Bob");
  await bob.untilPeople({ Alice: "here", Bob: "here" });
  for (let reloads = 0; reloads < 3; reloads += 1) {
    await alice.reload();
    await alice.untilPeople({ Alice: "here", Bob: "here" });
    await bob.untilPeople({ Alice: "here", Bob: "here" });
  }
});

play("a lost server is told, and everyone is back by themselves", async (stage) => {
  const tabs = [await stage.guest("Alice"), await stage.guest("Bob")];
  for (const tab of tabs) {
    await tab.untilPeople({ Alice: "here", Bob: "here" });
    await tab.untilConnection("online");
  }
  await stage.chess.kill();
  for (const tab of tabs) {
    await tab.untilConnection("lost");
    assert.match(await tab.page.locator("[data-test=connection]").innerText(), /\S/, "the banner says something");
  }
  await stage.chess.start();
  for (const tab of tabs) await tab.untilConnection("online");
  for (const tab of tabs) await tab.untilPeople({ Alice: "here", Bob: "here" });
});

play("a site that refuses the page's address says so", async (stage) => {
  await stage.chess.kill();
  await stage.chess.start({ ORIGIN: "http://chess.example" });
  const alice = await stage.visitor();
  await alice.choose("Alice");
  await alice.untilConnection("refused");
  const said = await alice.page.locator("[data-test=connection]").innerText();
  assert.match(said, /refuses the live connection from http:\/\/localhost:\d+.*--origin/s);
  // Once the address is right, the page gets in by itself.
  await stage.chess.kill();
  await stage.chess.start();
  await alice.untilConnection("online");
  await alice.untilPeople({ Alice: "here" });
});

play("a name with markup is shown as text", async (stage) => {
  const names = ["<script>alert()</script>", "<img onerror=alert()>", "\"'&amp;<b>", "__proto__", "{{7*7}}${7*7}"];
  const bob = await stage.guest("Bob");
  for (const name of names) await stage.guest(name);
  const everyone = Object.fromEntries(["Bob", ...names].map((name) => [name, "here"]));
  await bob.untilPeople(everyone);
  await bob.reload();
  await bob.untilPeople(everyone);
  const inserted = await bob.page.locator("[data-test=person] :is(script, img, b)").count();
  assert.equal(inserted, 0, "no name became an element");
});

play("names that are refused, and why", async (stage) => {
  const alice = await stage.guest("Alice");
  const bob = await stage.visitor();
  const refused = ["", "   ", "x".repeat(25), "<script>alert(1)</script>", "Alice", " alice "];
  for (const name of refused) {
    await bob.choose(name);
    await bob.untilRefused();
    // A refusal stays until the next name is sent: a new page, so that each has its own.
    await bob.reload();
    await bob.untilAtDoor();
  }
  await alice.untilPeople({ Alice: "here" });
  await bob.choose("  Bob  ");
  await alice.untilPeople({ Alice: "here", Bob: "here" });
});

play("the longest name fits on a phone", async (stage) => {
  const phone = { viewport: { width: 360, height: 640 }, isMobile: true, hasTouch: true, colorScheme: "dark" };
  const alice = await stage.guest("W".repeat(24), phone);
  await alice.untilPeople({ ["W".repeat(24)]: "here" });
  const { content, screen } = await alice.page.evaluate(() => ({
    content: document.documentElement.scrollWidth,
    screen: document.documentElement.clientWidth,
  }));
  assert.ok(content <= screen, `the page is ${content} px wide on a screen of ${screen}`);
});

play("signing out leaves the lobby with every tab", async (stage) => {
  const alice = await stage.guest("Alice");
  const second = await alice.another();
  const bob = await stage.guest("Bob");
  await bob.untilPeople({ Alice: "here, 2 tabs", Bob: "here" });
  await alice.page.locator("#sign-out").click();
  await alice.page.locator("#leaving-leave").click();
  for (const tab of [alice, second]) await tab.untilAtDoor();
  await bob.untilPeople({ Bob: "here" });
  await alice.choose("Carol");
  await bob.untilPeople({ Carol: "here, 2 tabs", Bob: "here" });
});

play("whoever can't come back is asked before signing out, in words", async (stage) => {
  const alice = await stage.guest("Alice");
  const bob = await stage.guest("Bob");
  const { page } = alice;
  const dialog = page.locator("#leaving");
  for (const button of ["#sign-out", "#sign-out-everywhere"]) {
    await page.locator(button).click();
    await dialog.waitFor();
    assert.match(await dialog.innerText(), /no password.*nobody can come back as Alice/s);
    // The quick answer is the one that costs nothing.
    await page.keyboard.press("Enter");
    await dialog.waitFor({ state: "hidden" });
  }
  await bob.untilPeople({ Alice: "here", Bob: "here" });
  // The way out: a password, which another tab may set.
  const second = await alice.another();
  await page.locator("#sign-out").click();
  await dialog.locator("a").click();
  await dialog.waitFor({ state: "hidden" });
  await page.locator("#new-password").fill("e4 e5 Nf3 Nc6");
  await page.locator("#new-password").press("Enter");
  await page.locator("#password-note", { hasText: "saved" }).waitFor();
  await second.page.locator("#sign-out").click();
  for (const tab of [alice, second]) await tab.untilAtDoor();
  await bob.untilPeople({ Bob: "here" });
});

play("back from a game that isn't there is where one was before", async (stage) => {
  const { page } = await stage.guest("Alice");
  await page.locator("#my-name").click();
  await page.waitForURL("**/you");
  await page.goto(`${stage.chess.url}game/unheard-of`);
  await page.locator("#lobby-note", { hasText: "no such game" }).waitFor();
  await page.goBack();
  await page.waitForURL("**/you");
});
