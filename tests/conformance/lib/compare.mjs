// Compares frames that were recorded with frames that arrive.
//
// Compared are the values that JavaScript parses, so the order of keys and the forms of numbers do not
// count. Four things differ between any two runs:
//   phx_ref, phx_ref_prev   the same recorded ref must always be the same actual ref, and the other way round
//   online_at               any text of digits
//   already_tracked         Elixir's words; ours must name the topic and the key
//   phx_reason              in a meta that left: ours to add, one of four words

const REASONS = ["left", "gone", "finished", "crashed", "cancelled", "unreachable", "draining"];
const ALREADY_TRACKED = /^\{:already_tracked, #PID<[\d.]+>, "(.*)", "(.*)"\}$/;

/** Holds what one playing has learnt of refs; `tolerate(recorded, actual, path)` may allow further differences. */
export class Comparison {
  #actualOf = new Map();
  #recordedOf = new Map();
  #tolerate;

  constructor({ tolerate = () => false } = {}) {
    this.#tolerate = tolerate;
  }

  /** Throws where the actual frame (text) is not the recorded one. */
  text(recorded, actual) {
    const expected = JSON.parse(recorded);
    const got = JSON.parse(actual);
    withoutReasons(got);
    const difference = this.#difference(expected, got, []);
    if (difference !== undefined) throw new Error(`${difference}\n  recorded ${recorded}\n  arrived  ${actual}`);
  }

  /** The first difference, in words; undefined where there is none. */
  #difference(recorded, actual, path) {
    if (this.#tolerate(recorded, actual, path)) return undefined;
    if (isRef(path)) return this.#refs(recorded, actual, path);
    if (path.at(-1) === "online_at") return /^\d+$/.test(actual) ? undefined : differ(recorded, actual, path);
    if (isObject(recorded) && isObject(actual)) return this.#objects(recorded, actual, path);
    if (Array.isArray(recorded) && Array.isArray(actual)) return this.#arrays(recorded, actual, path);
    const [, topic, key] = (typeof recorded === "string" && ALREADY_TRACKED.exec(recorded)) || [];
    if (topic !== undefined) {
      const named = typeof actual === "string" && actual.includes(topic) && actual.includes(key);
      return named ? undefined : differ(recorded, actual, path);
    }
    return recorded === actual ? undefined : differ(recorded, actual, path);
  }

  #objects(recorded, actual, path) {
    for (const key of new Set([...Object.keys(recorded), ...Object.keys(actual)])) {
      if (!Object.hasOwn(actual, key)) return `${where([...path, key])} is missing`;
      if (!Object.hasOwn(recorded, key)) return `${where([...path, key])} is not in the recording`;
      const difference = this.#difference(recorded[key], actual[key], [...path, key]);
      if (difference !== undefined) return difference;
    }
    return undefined;
  }

  #arrays(recorded, actual, path) {
    if (recorded.length !== actual.length) return `${where(path)} has ${actual.length} elements, recorded ${recorded.length}`;
    for (const [index, value] of recorded.entries()) {
      const difference = this.#difference(value, actual[index], [...path, index]);
      if (difference !== undefined) return difference;
    }
    return undefined;
  }

  #refs(recorded, actual, path) {
    if (typeof actual !== "string" || actual === "") return `${where(path)} is no ref: ${JSON.stringify(actual)}`;
    const known = this.#actualOf.get(recorded) ?? actual;
    const knownBack = this.#recordedOf.get(actual) ?? recorded;
    if (known !== actual || knownBack !== recorded) {
      return `${where(path)} is ${actual}; ${recorded} was ${known} before, and ${actual} stood for ${knownBack}`;
    }
    this.#actualOf.set(recorded, actual);
    this.#recordedOf.set(actual, recorded);
    return undefined;
  }
}

/** Takes `phx_reason` out of the metas that left; one that is no known word stays, and so differs. */
function withoutReasons(frame) {
  if (!Array.isArray(frame) || frame[3] !== "presence_diff") return;
  for (const { metas } of Object.values(frame[4]?.leaves ?? {})) {
    for (const meta of metas ?? []) {
      if (REASONS.includes(meta.phx_reason)) delete meta.phx_reason;
    }
  }
}

const isRef = (path) => ["phx_ref", "phx_ref_prev"].includes(path.at(-1));
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const where = (path) => `at /${path.join("/")}:`;
const differ = (recorded, actual, path) => `${where(path)} ${JSON.stringify(actual)}, recorded ${JSON.stringify(recorded)}`;
