// Types around phoenix.js: channels whose events, replies and presences are those of the program. The file beside it,
// channels.ts, has them. Both are written by adsum::typescript.

import { type Channel, Presence, type Socket } from "phoenix"

/** The types of the channels of one pattern. */
export interface ChannelTypes {
  /** The parameters of a join, and its response. */
  params: unknown
  joined: unknown
  /** The events that a client pushes, each with the response of its "ok". */
  events: { [event: string]: { payload: unknown; reply: unknown } }
  /** The events that a client is sent. */
  pushes: { [event: string]: unknown }
  /** The metas of presences, and the info that is added to each key. */
  meta: unknown
  info: unknown
}

/** The topics of a pattern: `room:${string}` for "room:*". */
export type TopicOf<Pattern extends string> = Pattern extends `${infer Start}*` ? `${Start}${string}` : Pattern

/** A meta, with what the server adds. */
export type Meta<Types extends ChannelTypes> = Types["meta"] & {
  phx_ref: string
  phx_ref_prev?: string
  /** In metas that have left: why. */
  phx_reason?: string
}

/** The presences under one key. */
export type Entry<Types extends ChannelTypes> = { metas: Meta<Types>[] } & Types["info"]

/** A join or an event was answered with "error" (`response` is what the channel says), or not at all. */
export class Refused extends Error {
  readonly response: unknown

  constructor(what: string, response: unknown) {
    super(`${what} was ${response === undefined ? "not answered" : `refused: ${JSON.stringify(response)}`}`)
    this.response = response
  }
}

/** A channel of phoenix.js, with types. `channel` is the bare one, for whatever is missing here. */
export class TypedChannel<Types extends ChannelTypes> {
  readonly channel: Channel

  constructor(channel: Channel) {
    this.channel = channel
  }

  /** Joins. phoenix.js joins again by itself whenever the connection was lost. */
  join(): Promise<Types["joined"]> {
    return answer("the join", this.channel.join())
  }

  leave(): Promise<unknown> {
    return answer("the leave", this.channel.leave())
  }

  /** Sends an event, and resolves to its reply. Of an event that isn't answered, leave the promise alone. */
  push<Event extends keyof Types["events"] & string>(
    event: Event,
    payload: Types["events"][Event]["payload"],
  ): Promise<Types["events"][Event]["reply"]> {
    const answered = answer(event, this.channel.push(event, payload as object))
    answered.catch(() => {}) // whoever awaits it hears of it all the same
    return answered
  }

  /** Calls back for each event of this name, until the returned function is called. */
  on<Event extends keyof Types["pushes"] & string>(
    event: Event,
    callback: (payload: Types["pushes"][Event]) => void,
  ): () => void {
    const ref = this.channel.on(event, callback)
    return () => this.channel.off(event, ref)
  }

  /** The list of presences. Make one before the join. */
  presence(): TypedPresence<Types> {
    return new TypedPresence(this.channel)
  }
}

/** A presence of phoenix.js, with types. */
export class TypedPresence<Types extends ChannelTypes> {
  readonly presence: Presence

  constructor(channel: Channel) {
    this.presence = new Presence(channel)
  }

  list(): [key: string, entry: Entry<Types>][] {
    return this.presence.list((key: string, entry: Entry<Types>) => [key, entry])
  }

  onSync(callback: () => void): void {
    this.presence.onSync(callback)
  }

  /** `current` is what was there before, if there was something. */
  onJoin(callback: (key: string, current: Entry<Types> | undefined, joined: Entry<Types>) => void): void {
    this.presence.onJoin((key, current, joined) => callback(key ?? "", current, joined))
  }

  /** `current` is what is left. */
  onLeave(callback: (key: string, current: Entry<Types>, left: Entry<Types>) => void): void {
    this.presence.onLeave((key, current, left) => callback(key ?? "", current, left))
  }
}

/** For a socket and the `Channels` of the program, the function that makes its channels. */
export function typed<Channels extends { [Pattern in keyof Channels]: ChannelTypes }>(socket: Socket) {
  return <Pattern extends keyof Channels & string>(
    pattern: Pattern,
    topic: TopicOf<Pattern>,
    params: Channels[Pattern]["params"],
  ): TypedChannel<Channels[Pattern]> => {
    if (pattern.endsWith("*") ? !topic.startsWith(pattern.slice(0, -1)) : topic !== pattern) {
      throw new TypeError(`${topic} is no topic of ${pattern}`)
    }
    return new TypedChannel(socket.channel(topic, params as object))
  }
}

function answer<Response>(what: string, push: ReturnType<Channel["push"]>): Promise<Response> {
  return new Promise((resolve, reject) => {
    push
      .receive("ok", resolve)
      .receive("error", (response: unknown) => reject(new Refused(what, response ?? null)))
      .receive("timeout", () => reject(new Refused(what, undefined)))
  })
}
