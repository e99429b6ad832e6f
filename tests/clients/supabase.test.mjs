// examples/supabase: what Supabase's client for JavaScript can do beside what all clients are tried with, and requests.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";

import WebSocket from "ws";

import { Signal } from "../lib/until.mjs";
import { connect } from "./lib/realtime-js.mjs";
import { start } from "./lib/servers.mjs";

const BYTES = [0, 1, 127, 128, 255];
const bytes = () => Uint8Array.from(BYTES).buffer;

/** A channel, and all that its program is told. */
class Watched {
  #changes = new Signal();
  told = [];

  constructor(client, topic, config = {}, { presence = true } = {}) {
    this.client = client;
    this.channel = client.channel(topic, { config });
    this.channel.on("broadcast", { event: "*" }, ({ event, payload }) => this.#tell({ broadcast: event, payload }));
    this.channel.on("system", {}, (payload) => this.#tell({ system: payload }));
    if (!presence) return;
    this.channel.on("presence", { event: "sync" }, () => this.#tell({ sync: this.channel.presenceState() }));
    for (const event of ["join", "leave"]) {
      this.channel.on("presence", { event }, ({ key, newPresences, leftPresences }) =>
        this.#tell({ [event]: key, metas: newPresences ?? leftPresences }),
      );
    }
  }

  #tell(what) {
    this.told.push(what);
    this.#changes.changed();
  }

  /** Subscribes, and resolves with `{ status, error }` once that has succeeded or failed. */
  subscribe() {
    return new Promise((resolve) => {
      this.channel.subscribe((status, error) => {
        this.#tell({ status });
        resolve({ status, error });
      });
    });
  }

  /** The first that it was told after the first `from` for which `wanted` holds. */
  until(what, wanted, from = 0) {
    return this.#changes.until(what, () => this.told.slice(from).find(wanted), { state: () => this.told });
  }

  broadcasts() {
    return this.told.filter(({ broadcast }) => broadcast);
  }

  untilBroadcast(event) {
    return this.until(`the broadcast ${event}`, ({ broadcast }) => broadcast === event);
  }

  /** Resolves once the state has these keys with so many metas each. */
  untilState(counts) {
    const wanted = JSON.stringify(counts);
    const now = () => Object.fromEntries(Object.entries(this.channel.presenceState()).map(([key, metas]) => [key, metas.length]));
    return this.#changes.until(`the state ${wanted}`, () => JSON.stringify(now()) === wanted, { state: now });
  }

  say(event, payload) {
    return this.channel.send({ type: "broadcast", event, payload });
  }
}

for (const vsn of ["2.0.0", "1.0.0"]) {
  describe(`@supabase/realtime-js, version ${vsn}`, () => {
    let server;
    const clients = [];
    before(async () => {
      server = await start("supabase");
    });
    afterEach(async () => {
      await Promise.all(clients.splice(0).map((client) => client.disconnect()));
      server.assertAlive();
    });
    after(() => server.kill());

    const client = (options) => {
      const made = connect(server.url, { vsn, ...options });
      clients.push(made);
      return made;
    };
    const keyed = (key) => ({ presence: { key } });
    const subscribed = async (topic, config, options) => {
      const watched = new Watched(client(), topic, config, options);
      assert.equal((await watched.subscribe()).status, "SUBSCRIBED");
      return watched;
    };

    test("presence: track, track anew, the same again, untrack", async () => {
      const ada = await subscribed("presence", keyed("ada"));
      await ada.until("the first state", ({ sync }) => sync);
      assert.equal(await ada.channel.track({ mood: 1 }), "ok");
      const bob = await subscribed("presence", keyed("bob"));
      await bob.untilState({ ada: 1 });
      const { metas } = await bob.until("her join", ({ join }) => join === "ada");
      assert.equal(metas[0].mood, 1);

      const from = bob.told.length;
      assert.equal(await ada.channel.track({ mood: 2 }), "ok");
      await bob.until("her old meta's leave", ({ leave, metas }) => leave === "ada" && metas[0].mood === 1, from);
      assert.deepEqual(bob.channel.presenceState().ada.map(({ mood }) => mood), [2]);

      assert.equal(await ada.channel.track({ mood: 2 }), "ok");
      assert.equal(await ada.channel.untrack(), "ok");
      await bob.untilState({});
      const joins = bob.told.slice(from).filter(({ join }) => join);
      assert.equal(joins.length, 1, "nobody is told of a meta that is the same");
    });

    test("presence: a key of the server's, and metas that are none", async () => {
      const ada = await subscribed("key");
      assert.equal(await ada.channel.track({}), "ok");
      const { join } = await ada.until("her join", ({ join }) => join);
      assert.match(join, /^[0-9a-f]{16}$/);
      assert.equal(await ada.channel.track("no map"), "error");
      assert.equal(await ada.channel.track({ still: "there" }), "ok");
    });

    test("presence: a client that doesn't ask for it isn't told", async () => {
      const ada = await subscribed("quiet", keyed("ada"));
      const deaf = await subscribed("quiet", keyed("deaf"), { presence: false });
      const frames = [];
      deaf.client.socketAdapter.onMessage((message) => frames.push(message.event));
      assert.equal(await ada.channel.track({}), "ok");
      await ada.untilState({ ada: 1 });
      await ada.say("after", {});
      await deaf.untilBroadcast("after");
      assert.deepEqual(frames.filter((event) => event.startsWith("presence_")), []);
    });

    test("broadcast: to the others, to oneself, with an answer", async () => {
      const ada = await subscribed("broadcast", { broadcast: { self: true, ack: true } });
      const bob = await subscribed("broadcast");
      assert.equal(await ada.say("both", { s: "grün € 😀" }), "ok");
      for (const room of [ada, bob]) assert.deepEqual((await room.untilBroadcast("both")).payload, { s: "grün € 😀" });
      assert.equal(await bob.say("one", { n: 1 }), "ok");
      assert.deepEqual((await ada.untilBroadcast("one")).payload, { n: 1 });
      assert.deepEqual(bob.broadcasts().map(({ broadcast }) => broadcast), ["both"]);
    });

    test("broadcast: bytes, under any name", async (t) => {
      if (vsn === "1.0.0") return t.skip("version 1 carries no bytes");
      const ada = await subscribed("bytes", { broadcast: { self: true, ack: true } });
      const bob = await subscribed("bytes");
      for (const event of ["raw", "phx_leave", "presence_diff", "grün"]) {
        assert.equal(await ada.say(event, bytes()), "ok");
        for (const room of [ada, bob]) {
          const { payload } = await room.untilBroadcast(event);
          assert.ok(payload instanceof ArrayBuffer);
          assert.deepEqual([...new Uint8Array(payload)], BYTES);
        }
      }
      assert.equal(await ada.channel.track({}), "ok", "the channel is still joined");
    });

    test("broadcast: by requests", async () => {
      const ada = await subscribed("by request");
      const out = new Watched(client(), "by request");
      assert.deepEqual(await out.channel.httpSend("one", { n: 1 }), { success: true });
      assert.deepEqual((await ada.untilBroadcast("one")).payload, { n: 1 });
      // A channel that isn't subscribed posts what it sends.
      const warn = console.warn;
      console.warn = () => {};
      assert.equal(await out.say("all", { n: 2 }), "ok");
      console.warn = warn;
      assert.deepEqual((await ada.untilBroadcast("all")).payload, { n: 2 });
      if (vsn === "1.0.0") return;
      assert.deepEqual(await out.channel.httpSend("raw", bytes()), { success: true });
      assert.deepEqual([...new Uint8Array((await ada.untilBroadcast("raw")).payload)], BYTES);
    });

    test("private topics are for those who have a token", async () => {
      const config = { private: true };
      for (const [topic, config] of [["private:a", { private: true }], ["private:a", {}], ["a", { private: true }]]) {
        const stranger = new Watched(client(), topic, config);
        const { status, error } = await stranger.subscribe();
        assert.equal(status, "CHANNEL_ERROR", topic);
        assert.match(error.message, /Unauthorized/);
        await stranger.client.removeChannel(stranger.channel);
        const sent = stranger.channel.httpSend("x", {});
        await assert.rejects(sent, /Unauthorized/);
      }
      const user = client();
      await user.setAuth("user");
      const ada = new Watched(user, "private:a", config);
      assert.equal((await ada.subscribe()).status, "SUBSCRIBED");
      assert.deepEqual(await ada.channel.httpSend("x", { n: 1 }), { success: true });
      assert.deepEqual((await ada.untilBroadcast("x")).payload, { n: 1 });

      await user.setAuth("expired");
      const { system } = await ada.until("that her token has expired", ({ system }) => system?.status === "error");
      assert.deepEqual([system.extension, system.channel], ["system", "private:a"]);
      assert.match(system.message, /InvalidJWTToken/);
      await ada.until("the end", ({ status }) => status === "CLOSED");
    });

    test("a topic without a name is refused", async () => {
      const nameless = new Watched(client(), "");
      const { status, error } = await nameless.subscribe();
      assert.equal(status, "CHANNEL_ERROR");
      assert.match(error.message, /TopicNameRequired/);
    });

    test("a channel is removed, and subscribed to anew", async () => {
      const bob = await subscribed("again", keyed("bob"));
      const ada = await subscribed("again", keyed("ada"));
      await ada.channel.track({});
      await bob.untilState({ ada: 1 });
      assert.equal(await ada.client.removeChannel(ada.channel), "ok");
      await bob.untilState({});
      const again = new Watched(ada.client, "again", keyed("ada"));
      assert.equal((await again.subscribe()).status, "SUBSCRIBED");
      await again.channel.track({});
      await bob.untilState({ ada: 1 });
    });
  });
}

describe("requests to examples/supabase", () => {
  let server;
  before(async () => {
    server = await start("supabase");
  });
  after(() => server.kill());

  const post = async (path, body, headers = {}) => {
    const response = await fetch(`${server.origin}/api/broadcast${path}`, { method: "POST", headers, body });
    return [response.status, await response.text()];
  };
  const JSON_TYPE = { "content-type": "application/json" };

  test("a socket without an apikey is refused with 401, and words", async () => {
    for (const query of ["", "?apikey=wrong"]) {
      const answer = await new Promise((resolve, reject) => {
        const socket = new WebSocket(`${server.url}/websocket${query}`);
        socket.on("open", () => reject(new Error("it is open")));
        socket.on("error", reject);
        socket.on("unexpected-response", (_, response) => {
          response.on("data", (body) => resolve([response.statusCode, JSON.parse(body)]));
        });
      });
      assert.deepEqual(answer, [401, { message: "unknown apikey" }]);
    }
  });

  test("they need a key or a token, which must be right", async () => {
    const message = JSON.stringify({ messages: [{ topic: "a", event: "e", payload: {} }] });
    for (const [path, body] of [["", message], ["/a/events/e", "{}"]]) {
      assert.equal((await post(path, body, JSON_TYPE))[0], 401);
      assert.equal((await post(path, body, { ...JSON_TYPE, apikey: "wrong" }))[0], 401);
      assert.equal((await post(path, body, { ...JSON_TYPE, apikey: "anon", authorization: "Bearer wrong" }))[0], 401);
      assert.deepEqual(await post(path, body, { ...JSON_TYPE, apikey: "anon" }), [202, ""]);
      assert.deepEqual(await post(path, body, { ...JSON_TYPE, authorization: "Bearer user" }), [202, ""]);
    }
    const [status, text] = await post("/private:a/events/e?private=true", "{}", { ...JSON_TYPE, apikey: "anon" });
    assert.equal(status, 401);
    assert.match(JSON.parse(text).message, /Unauthorized/);
  });

  test("a body that is no JSON is refused", async () => {
    const headers = { ...JSON_TYPE, apikey: "anon" };
    assert.deepEqual(await post("/a/events/e", "{", headers), [400, JSON.stringify({ message: "no JSON" })]);
    assert.equal((await post("", "{", headers))[0], 400);
  });

  test("a join with parameters of any shape gets the defaults", async () => {
    const socket = new WebSocket(`${server.url}/websocket?apikey=anon&vsn=2.0.0`);
    const next = () => new Promise((resolve) => socket.once("message", (text) => resolve(JSON.parse(text))));
    await new Promise((resolve) => socket.once("open", resolve));
    for (const params of [[], { config: 7 }, { config: { broadcast: { ack: "maybe" }, private: null } }, null]) {
      socket.send(JSON.stringify(["1", "1", "realtime:any", "phx_join", params]));
      let frame;
      do frame = await next();
      while (frame[3] !== "phx_reply");
      assert.deepEqual(frame[4], { status: "ok", response: { postgres_changes: [] } });
    }
    socket.close();
  });
});
