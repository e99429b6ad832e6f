// Made by adsum::typescript from the program's types. Not to be changed by hand.

export type Mark = { by: string, position: Position, };

export type Opened = { lines: number, };

export type Position = { line: number, };

export type Reader = { name: string, };

export interface Channels {
  "document:*": {
    params: Reader
    joined: Opened
    meta: Position
    info: unknown
    events: {
      "mark": { payload: Position; reply: unknown }
      "move": { payload: Position; reply: Position }
    }
    pushes: {
      "marked": Mark
    }
  }
}
