// Licence expressions, as packages state them: `MIT OR Apache-2.0`, `(MIT OR Apache-2.0) AND Unicode-3.0`.

/** The licences under `[licenses] allow` of a deny.toml. */
export function allowedLicences(denyToml) {
  const section = /^\[licenses\]$([\s\S]*?)(?=^\[|$(?![\s\S]))/m.exec(denyToml)?.[1];
  const list = /^allow = \[([^\]]*)\]/m.exec(section ?? "")?.[1];
  if (list === undefined) throw new Error("deny.toml has no list under [licenses] allow");
  return new Set([...list.matchAll(/"([^"]+)"/g)].map(([, licence]) => licence));
}

/** Whether the expression can be satisfied with allowed licences alone. An empty expression can't. */
export function allows(expression, allowed) {
  if (!expression) return false;
  // Old crates write a slash for OR.
  const tokens = expression.replaceAll("/", " OR ").match(/\(|\)|[^\s()]+/g) ?? [];
  const result = either();
  if (tokens.length > 0) throw new Error(`not a licence expression: ${expression}`);
  return result;

  function either() {
    let result = both();
    while (tokens[0] === "OR") {
      tokens.shift();
      const next = both();
      result ||= next;
    }
    return result;
  }

  function both() {
    let result = one();
    while (tokens[0] === "AND") {
      tokens.shift();
      const next = one();
      result &&= next;
    }
    return result;
  }

  function one() {
    const token = tokens.shift();
    if (token === "(") {
      const result = either();
      if (tokens.shift() !== ")") throw new Error(`not a licence expression: ${expression}`);
      return result;
    }
    if (token === undefined || [")", "OR", "AND", "WITH"].includes(token)) {
      throw new Error(`not a licence expression: ${expression}`);
    }
    // An exception adds a permission to the licence that it follows.
    if (tokens[0] === "WITH") tokens.splice(0, 2);
    return allowed.has(token);
  }
}
