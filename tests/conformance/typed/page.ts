// A page of examples/programs' `channel`, in TypeScript: two readers of one document.

import { Socket, type SocketConnectOption } from "phoenix"

import type { Channels } from "./channels.js"
import { Refused, typed } from "./phoenix-typed.js"

export async function read(url: string, transport: SocketConnectOption["transport"]): Promise<string[]> {
  const heard: string[] = []
  const sockets = [new Socket(url, { transport }), new Socket(url, { transport })] as const
  const [ada, bob] = [typed<Channels>(sockets[0]), typed<Channels>(sockets[1])]
  for (const socket of sockets) socket.connect()

  const nameless = ada("document:*", "document:7", { name: "" })
  const refused = await nameless.join().catch((error: unknown) => error)
  if (refused instanceof Refused) heard.push(`refused: ${JSON.stringify(refused.response)}`)
  nameless.channel.leave()

  const reads = ada("document:*", "document:7", { name: "Ada" })
  const presence = reads.presence()
  const moved = new Promise<void>((resolve) => {
    presence.onSync(() => {
      for (const [name, { metas }] of presence.list()) {
        const line: number | undefined = metas[0]?.line
        if (name === "Bob" && line === 12) resolve()
      }
    })
  })
  const left = new Promise<string>((resolve) => {
    presence.onLeave((name, current, { metas }) => {
      if (current.metas.length === 0) resolve(`${name}: ${metas[0]?.phx_reason}`)
    })
  })
  const { lines } = await reads.join()
  const marked = new Promise<string>((resolve) => {
    reads.on("marked", ({ by, position }) => resolve(`${by} marks line ${position.line}`))
  })
  const writes = bob("document:*", "document:7", { name: "Bob" })
  await writes.join()
  const past = await writes.push("move", { line: lines + 1 })
  heard.push(`line ${lines + 1} is line ${past.line}`)
  void writes.push("mark", { line: 7 })
  heard.push(await marked)
  await writes.push("move", { line: 12 })
  await moved
  heard.push("Bob is in line 12")
  await writes.leave()
  heard.push(await left)
  for (const socket of sockets) socket.disconnect()
  return heard
}

/** None of this may compile; tsc fails where one does. */
export function wrong(socket: Socket): void {
  const channel = typed<Channels>(socket)
  // @ts-expect-error: no such pattern
  channel("room:*", "room:7", { name: "Ada" })
  // @ts-expect-error: a topic of another pattern
  channel("document:*", "room:7", { name: "Ada" })
  // @ts-expect-error: parameters of another type
  channel("document:*", "document:7", { name: 7 })
  const reads = channel("document:*", "document:7", { name: "Ada" })
  // @ts-expect-error: no such event
  reads.push("jump", { line: 12 })
  // @ts-expect-error: a payload of another type
  reads.push("move", { line: "12" })
  // @ts-expect-error: nothing is pushed under this name
  reads.on("moved", () => {})
  // @ts-expect-error: no such member of what is pushed
  reads.on("marked", ({ line }) => line)
  // @ts-expect-error: no such member of a reply
  void reads.push("move", { line: 12 }).then(({ column }) => column)
  // @ts-expect-error: no such member of the answer to a join
  void reads.join().then(({ pages }) => pages)
  for (const [, { metas }] of reads.presence().list()) {
    // @ts-expect-error: no such member of a meta
    metas[0]?.column
  }
  const named = typed<{ "room:*": Room }>(socket)("room:*", "room:7", {})
  for (const [, { name, metas }] of named.presence().list()) {
    const right: string = name
    // @ts-expect-error: an info is beside the metas
    metas[0]?.name
    // @ts-expect-error: an info of another type
    const wrong: number = name
  }
}

/** A channel whose presences have an info. */
interface Room {
  params: unknown
  joined: unknown
  events: {}
  pushes: {}
  meta: { online_at: number }
  info: { name: string }
}
