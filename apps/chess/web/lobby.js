// The live side of the lobby: one socket, one channel, and who is present in it.

import { Presence, Socket } from "/vendor/phoenix.mjs";

/**
 * Joins the lobby and stays in it, through lost connections, until `close` is called.
 *
 * `onPeople(people, fresh)`: everyone who is here, after each change; `fresh` when the whole list came anew,
 * so that differences to the last one are no news.
 * `onConnection("online" | "lost")`: whether what is shown is live.
 * `onRefused()`: the server may no longer know us.
 */
export function openLobby({ onPeople, onConnection, onRefused }) {
  const socket = new Socket("/socket");
  let told = null;
  const channel = socket.channel("lobby", () => ({ status: (told = status()) }));

  // Before Presence binds its own handlers, for they run in this order.
  let fresh = true;
  channel.on("presence_state", () => (fresh = true));
  const presence = new Presence(channel);
  presence.onSync(() => {
    onPeople(presence.list(person), fresh);
    fresh = false;
  });

  const tell = () => {
    if (channel.state !== "joined" || told === status()) return;
    told = status();
    channel.push("status", { status: told });
  };
  document.addEventListener("visibilitychange", tell);

  let closed = false;
  const lost = () => {
    if (!closed) onConnection("lost");
  };
  channel.onError(lost);
  socket.onClose(lost);
  socket.onError(() => {
    lost();
    if (!closed) onRefused();
  });
  channel.join().receive("ok", () => {
    onConnection("online");
    // The tab may have been hidden or shown while the join was under way.
    tell();
  });
  socket.connect();

  return {
    close() {
      closed = true;
      document.removeEventListener("visibilitychange", tell);
      socket.disconnect();
    },
  };
}

/** A tab that cannot be seen is away. */
function status() {
  return document.visibilityState === "hidden" ? "away" : "here";
}

/** One person out of all their tabs and devices. */
function person(id, { metas, user }) {
  return {
    id,
    name: user?.name ?? "Somebody",
    tabs: metas.length,
    devices: [...new Set(metas.map((meta) => meta.device))].sort(),
    since: Math.min(...metas.map((meta) => meta.online_at)),
    away: metas.every((meta) => meta.status === "away"),
  };
}
