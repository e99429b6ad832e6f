// Made by adsum::typescript from the program's types. Not to be changed by hand.

export type Place = { line: number, };

export type Reader = { name: string, };

export interface Channels {
  "document:*": {
    params: Reader
    joined: unknown
    meta: Place
    info: unknown
    events: {
      "move": { payload: Place; reply: unknown }
    }
    pushes: {
    }
  }
}
