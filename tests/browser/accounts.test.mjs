// A name with a password: leaving, coming back from elsewhere, and what one finds there.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before } from "node:test";

import { launchBrowser, scene } from "./lib/scene.mjs";

let browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser?.close());

const play = (title, script, settings) => scene(title, () => browser, script, settings);

const PASSWORD = "e4 e5 Nf3 Nc6";

async function signIn(tab, name, password) {
  const form = tab.page.locator("#name-form");
  await form.locator("input[name=name]").fill(name);
  await form.locator("details").evaluate((details) => (details.open = true));
  await form.locator("input[name=password]").fill(password);
  await form.locator("input[name=password]").press("Enter");
}

async function savePassword(tab, password, current) {
  if (current) await tab.page.locator("#current-password").fill(current);
  await tab.page.locator("#new-password").fill(password);
  await tab.page.locator("#new-password").press("Enter");
}

play("somebody plays, sets a password, and finds the game again from another browser", async (stage) => {
  const [alice, bob] = await stage.table();
  await alice.play(bob, "f3", "e5", "g4", "Qh4#");
  await alice.untilState(/^0 – 1/);
  await alice.page.locator(".me-name").click();
  const games = alice.page.locator("[data-test=past]");
  await games.filter({ hasText: "Bob" }).waitFor();
  assert.match(await games.innerText(), /Lost to Bob.*Checkmate: Black wins\..*5 \+ 0, 2 moves.*Here now/s);
  await alice.page.locator("#password-says", { hasText: "no password" }).waitFor();
  await savePassword(alice, "short");
  await alice.page.locator("#password-note", { hasText: "at least 8 characters" }).waitFor();
  await savePassword(alice, PASSWORD);
  await alice.page.locator("#password-note", { hasText: "saved" }).waitFor();

  const elsewhere = await stage.visitor();
  await elsewhere.choose("Alice");
  assert.match(await elsewhere.untilRefused(), /already has that name.*password/);
  await signIn(elsewhere, "Alice", "not the password");
  await elsewhere.page.locator("#name-error", { hasText: "another password" }).waitFor();
  await signIn(elsewhere, "Alice", PASSWORD);
  await elsewhere.untilInLobby();
  await elsewhere.untilPeople({ Alice: "here, 2 tabs", Bob: "here" });
  await bob.close();
  await elsewhere.untilPeople({ Alice: "here, 2 tabs" });

  await elsewhere.page.locator(".me-name").click();
  const past = elsewhere.page.locator("[data-test=past]").filter({ hasText: "Bob" });
  await past.locator("[data-test=seen]", { hasText: "Seen just now" }).waitFor();
  // Taken away.
  const [download] = await Promise.all([elsewhere.page.waitForEvent("download"), past.locator("a[download]").click()]);
  const pgn = readFileSync(await download.path(), "utf8");
  assert.match(pgn, /\[White "Alice"\]\n\[Black "Bob"\]\n\[Result "0-1"\]/);
  assert.match(pgn, /1\. f3 \{\[%clk 0:0\d:\d\d\]\} 1\.\.\. e5 .*Qh4# \{\[%clk 0:0\d:\d\d\]\} 0-1\n$/s);
  // Replayed.
  await past.locator("a").first().click();
  await elsewhere.untilAtGame(alice.game);
  assert.deepEqual(await elsewhere.sans(), ["f3", "e5", "g4", "Qh4#"]);
  await elsewhere.untilPieces({ h4: "bq", d8: null });
  await elsewhere.page.locator("#game-steps button[value=first]").click();
  await elsewhere.untilPieces({ d8: "bq", f2: "wp", h4: null });
  await elsewhere.page.locator("#game-steps button[value=next]").click();
  await elsewhere.untilPieces({ f2: null, f3: "wp" });
  await elsewhere.page.locator("#game-pgn").waitFor();
});

play("whoever is refused at the door is led to the field that is wrong", async (stage) => {
  await stage.guest("Alice");
  const bob = await stage.visitor();
  const field = (name) => bob.page.locator(`#name-form input[name=${name}]`);
  const untilLedTo = async (wrong, right, message) => {
    await bob.page.locator("#name-error", { hasText: message }).waitFor();
    assert.equal(await bob.page.evaluate(() => document.activeElement.name), wrong);
    assert.equal(await field(wrong).getAttribute("aria-invalid"), "true");
    assert.equal(await field(right).getAttribute("aria-invalid"), "false");
  };
  await bob.choose("Alice");
  await untilLedTo("name", "password", "already has that name");
  await signIn(bob, "Alice", "not the password");
  await untilLedTo("password", "name", "another password");
  await signIn(bob, "Bob", "short");
  await untilLedTo("password", "name", "at least 8 characters");
  await signIn(bob, "Bob", PASSWORD);
  await bob.untilInLobby();
});

play("another password signs out all other browsers", async (stage) => {
  const alice = await stage.visitor();
  await signIn(alice, "Alice", PASSWORD);
  await alice.untilInLobby();
  const elsewhere = await stage.visitor();
  await signIn(elsewhere, "Alice", PASSWORD);
  await elsewhere.untilInLobby();
  await alice.page.locator(".me-name").click();
  await alice.page.locator("#no-past").waitFor();
  await alice.page.locator("#current-password").waitFor();
  await savePassword(alice, "another password", "not the password");
  await alice.page.locator("#password-note", { hasText: "isn't the password" }).waitFor();
  await savePassword(alice, "another password", PASSWORD);
  await elsewhere.untilAtDoor();
  await signIn(elsewhere, "Alice", "another password");
  await elsewhere.untilInLobby();
}, { MAX_ATTEMPTS: "0" });
