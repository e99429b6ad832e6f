// Made by adsum::typescript from the program's types. Not to be changed by hand.

export type Mark = { by: string, place: Place, };

export type Opened = { lines: number, };

export type Place = { line: number, };

export type Reader = { name: string, };

export interface Channels {
  "document:*": {
    params: Reader
    joined: Opened
    meta: Place
    info: unknown
    events: {
      "mark": { payload: Place; reply: unknown }
      "move": { payload: Place; reply: Place }
    }
    pushes: {
      "marked": Mark
    }
  }
}
