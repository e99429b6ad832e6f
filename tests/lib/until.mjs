// Waiting for what other programs do: always for an event, never for a time, and never for ever.

/** How long a test waits for something that must happen, in milliseconds. Generous: only a failing test waits it out. */
export const DEADLINE = 60_000;

/** Something that changes. Whoever waits looks again at each change. */
export class Signal {
  #waiters = new Set();

  /** Tells all who wait that something changed. */
  changed() {
    for (const look of [...this.#waiters]) look();
  }

  /**
   * Resolves with the first truthy value that `find` returns, looked for now and after each change.
   * `what` names it in the error; `state` says what was there instead.
   */
  until(what, find, { deadline = DEADLINE, state = () => undefined } = {}) {
    return new Promise((resolve, reject) => {
      const done = (finish, value) => {
        clearTimeout(timer);
        this.#waiters.delete(look);
        finish(value);
      };
      const look = () => {
        try {
          const found = find();
          if (found) done(resolve, found);
        } catch (error) {
          done(reject, error);
        }
      };
      const timer = setTimeout(() => {
        const seen = state();
        const but = seen === undefined ? "" : `, but: ${JSON.stringify(seen)}`;
        done(reject, new Error(`nothing within ${deadline} ms: expected ${what}${but}`));
      }, deadline);
      this.#waiters.add(look);
      look();
    });
  }
}
