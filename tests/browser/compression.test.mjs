// A page in Chromium, with the phoenix package, on a server that compresses.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { startServer } from "../lib/server.mjs";
import { Visitor } from "./lib/dashboard.mjs";
import { launchBrowser } from "./lib/scene.mjs";

const PHOENIX = fileURLToPath(
  new URL("../../apps/chess/node_modules/phoenix/priv/static/phoenix.min.js", import.meta.url),
);
const CROWD = [...Array(100).keys()].map((n) => `user-${n}`);

let browser;
let server;
let site;
/** The bytes that the page was sent by its socket. */
let bytes = 0;

/** A page, whose socket is passed on to the server. */
async function serve(port) {
  const server = createServer((request, response) => response.setHeader("content-type", "text/html").end("<!doctype html>"));
  server.on("upgrade", ({ url, rawHeaders }, near) => {
    const far = connect(port, "127.0.0.1");
    const headers = rawHeaders.map((text, n) => (n % 2 === 0 ? `${text}: ` : `${text}\r\n`));
    far.write(`GET ${url} HTTP/1.1\r\n${headers.join("")}\r\n`);
    far.on("data", (data) => {
      bytes += data.length;
    });
    near.pipe(far).pipe(near);
    for (const end of [near, far]) end.on("error", () => {});
    near.on("close", () => far.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

before(async () => {
  const options = ["--listen", "127.0.0.1:0", "--compress", "512"];
  [browser, server] = await Promise.all([
    launchBrowser(),
    startServer("rooms", { options, ready: /^listening on (\S+:\d+)$/m }),
  ]);
  site = await serve(Number(server.readyLine[1].split(":")[1]));
});
after(async () => {
  await Promise.all([browser?.close(), server?.kill()]);
  site?.close();
});

test("a page hears and says the same with compression, in fewer bytes", async () => {
  for (const user of CROWD) await Visitor.join(`http://${server.readyLine[1]}/`, user, "room:lobby");

  const page = await browser.newPage();
  const network = await page.context().newCDPSession(page);
  await network.send("Network.enable");
  let answer;
  let texts = 0;
  network.on("Network.webSocketHandshakeResponseReceived", ({ response }) => {
    answer = Object.entries(response.headers).find(([name]) => name.toLowerCase() === "sec-websocket-extensions")?.[1];
  });
  network.on("Network.webSocketFrameReceived", ({ response }) => {
    texts += response.payloadData.length;
  });

  await page.goto(`http://localhost:${site.address().port}/`);
  await page.addScriptTag({ path: PHOENIX });
  await page.evaluate(async () => {
    const { Socket, Presence } = window.Phoenix;
    const socket = new Socket("/socket", { params: { user_id: "page" } });
    socket.connect();
    const channel = socket.channel("room:lobby");
    const heard = [];
    channel.on("shout", (message) => heard.push(message));
    Object.assign(window, { channel, heard, presence: new Presence(channel) });
    await new Promise((joined, refused) => {
      channel.join().receive("ok", joined).receive("error", refused).receive("timeout", refused);
    });
  });
  await page.waitForFunction((count) => window.presence.list().length === count, CROWD.length + 1);
  const keys = await page.evaluate(() => window.presence.list((key) => key).sort());
  assert.deepEqual(keys, [...CROWD, "page"].sort());

  // Several messages in a row, large and small: whatever the browser keeps between them.
  const sayings = [1, 3_000, 1, 20_000, 3_000].map((times, n) => ({ n, text: "the page has said so, ".repeat(times) }));
  await page.evaluate((all) => all.forEach((saying) => window.channel.push("shout", saying)), sayings);
  await page.waitForFunction((count) => window.heard.length === count, sayings.length);
  assert.deepEqual(await page.evaluate(() => window.heard), sayings);

  // Somebody comes and goes: a diff after the state.
  const late = await Visitor.join(`http://${server.readyLine[1]}/`, "late", "room:lobby");
  await page.waitForFunction((count) => window.presence.list().length === count, CROWD.length + 2);
  late.vanish();
  await page.waitForFunction((count) => window.presence.list().length === count, CROWD.length + 1);

  assert.match(answer, /permessage-deflate/);
  assert.ok(texts > 500_000, `${texts} characters of text`);
  assert.ok(bytes < texts / 10, `${bytes} bytes for ${texts} characters of text`);
});
