// Reads the `use` declarations of Rust.

/** The paths that a `use` brings in, its braces taken apart. */
export function paths(tree, prefix = "") {
  const brace = tree.indexOf("{");
  if (brace < 0) {
    const [path, alias] = tree.trim().split(/\s+as\s+/);
    const full = (prefix + path).replace(/::self$/, "");
    return [{ name: alias ?? full.split("::").at(-1), full }];
  }
  const inner = tree.slice(brace + 1, tree.lastIndexOf("}"));
  return split(inner).flatMap((part) => paths(part, prefix + tree.slice(0, brace).trim()));
}

/** Splits at commas outside of braces. */
function split(text) {
  const parts = [""];
  let depth = 0;
  for (const char of text) {
    depth += { "{": 1, "}": -1 }[char] ?? 0;
    if (char === "," && depth === 0) parts.push("");
    else parts[parts.length - 1] += char;
  }
  return parts.filter((part) => part.trim() !== "");
}
