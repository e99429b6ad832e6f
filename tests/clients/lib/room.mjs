// A room as one client sees it, whichever client it is: what was said, and who is there.

import assert from "node:assert/strict";

import { Signal } from "../../lib/until.mjs";

export class Room {
  #changes = new Signal();
  #heard = [];
  #here = {};
  /** The keys under which a ref was there twice at any time. */
  #twice = new Set();
  /** The key under which it may be. */
  #mayRepeat;

  /** Lets one ref be there twice under a key. */
  mayRepeat(key) {
    this.#mayRepeat = key;
  }

  /** A broadcast has arrived. */
  hear(payload) {
    this.#heard.push(payload);
    this.#changes.changed();
  }

  /** The client's presences have changed: `{ key: metas }`, each with its ref. */
  see(here) {
    this.#here = JSON.parse(JSON.stringify(here));
    for (const [key, metas] of Object.entries(this.#here)) {
      if (new Set(metas.map(refOf)).size < metas.length) this.#twice.add(key);
    }
    this.#changes.changed();
  }

  untilHeard(payload) {
    const wanted = JSON.stringify(payload);
    const find = () => this.#heard.some((heard) => JSON.stringify(heard) === wanted);
    return this.#changes.until(`to hear ${wanted}`, find, { state: () => this.#heard });
  }

  /** All that has been heard so far. */
  get heard() {
    return this.#heard;
  }

  /** Resolves with `{ key: metas }` once each key has that many refs, and `also` holds of all metas. */
  async untilHere(counts, also = () => true) {
    const wanted = sorted(counts);
    const seen = () => sorted(Object.fromEntries(Object.entries(this.#here).map(([key, metas]) => [key, new Set(metas.map(refOf)).size])));
    const find = () => seen() === wanted && also(Object.values(this.#here).flat());
    await this.#changes.until(`the presences ${wanted}`, find, { state: () => this.#here });
    assert.deepEqual([...this.#twice].filter((key) => key !== this.#mayRepeat), [], "no ref is there twice");
    return this.#here;
  }

  /** Resolves once each key has that many metas, and none of them is one of `old`. */
  untilHereAnew(counts, old) {
    const refs = Object.values(old).flat().map(refOf);
    return this.untilHere(counts, (metas) => metas.every((meta) => !refs.includes(refOf(meta))));
  }
}

/** The name of one version of a meta. Clients of Supabase call it otherwise. */
export const refOf = ({ phx_ref, presence_ref }) => phx_ref ?? presence_ref;

const sorted = (counts) => JSON.stringify(Object.entries(counts).sort());
