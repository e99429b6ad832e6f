// The servers that clients are tried on: examples/rooms, and examples/supabase for those that speak to nothing else.

import { startServer } from "../../lib/server.mjs";

/** The intervals that every client is tried at: the default, and each change its own diff, as Phoenix does. */
export const INTERVALS = [
  { name: "the default diff interval", diffInterval: undefined },
  { name: "a diff interval of 0", diffInterval: 0 },
];

const PATHS = { rooms: "/socket", supabase: "/realtime/v1" };

/** Starts `rooms` or `supabase`; `listen` names its address, port 0 takes any that is free. */
export async function start(name, { diffInterval, listen = "127.0.0.1:0" } = {}) {
  const options = ["--listen", listen];
  if (diffInterval !== undefined) options.push("--diff-interval", String(diffInterval));
  const server = await startServer(name, { options, ready: /^listening on (\S+:\d+)$/m });
  const address = server.readyLine[1];
  return {
    address,
    /** The address that clients are given. */
    url: `ws://${address}${PATHS[name]}`,
    /** The address of requests. */
    origin: `http://${address}${PATHS[name]}`,
    assertAlive: () => server.assertAlive(),
    kill: () => server.kill(),
  };
}
