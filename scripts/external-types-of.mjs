// Finds types and traits of other crates in the public signatures of a Rust file. It reads the text, not the compiler's
// mind: what is public in a private module counts, and a name brought in by a glob or a macro is overlooked.

import { paths } from "./use-paths.mjs";

/** Crates whose types are nobody's concern. */
const OURS = new Set(["std", "core", "alloc", "crate", "self", "super"]);

/** @returns {string[]} sorted paths such as `bytes::Bytes` */
export function externalTypes(source) {
  const code = source
    // In one pass: a comment may have a quote in it, and a string two slashes.
    .replace(/\/\/[^\n]*|"(?:[^"\\]|\\.)*"/g, (found) => (found.startsWith("/") ? "" : '""'))
    .replace(/#\[cfg\(test\)\]\s*mod \w+ \{[^]*$/, "");
  const imported = new Map();
  for (const [, tree] of code.matchAll(/^\s*use ([^;]+);/gm)) {
    // A capital begins a type of this file, whose variants are brought in.
    for (const path of paths(tree)) if (!/^[A-Z]/.test(path.full)) imported.set(path.name, path.full);
  }
  const found = new Set();
  for (const signature of signatures(code, imported)) {
    for (const [path] of signature.matchAll(/\b[a-z_][a-z0-9_]*(?:::\w+)+|\b[A-Z]\w*/g)) {
      const [first, ...rest] = path.split("::");
      const full = [imported.get(first) ?? (rest.length > 0 ? first : ""), ...rest].join("::");
      if (full.includes("::") && !OURS.has(full.split("::")[0])) found.add(full);
    }
  }
  return [...found].sort();
}

const isOurs = (type, imported) => OURS.has((imported.get(type) ?? "self").split("::")[0]);

/**
 * Heads of public functions and types, public fields, the functions and types of public traits and enums, what is
 * exported anew, and the traits that public types have.
 */
function* signatures(code, imported) {
  for (const [, tree] of code.matchAll(/^\s*pub use ([^;]+);/gm)) yield* paths(tree).map(({ full }) => full);
  const hidden = new Set(Array.from(code.matchAll(/^\s*(?:pub\([^)]*\) )?(?:struct|enum|trait) (\w+)/gm), ([, name]) => name));
  // A type of another crate may have a trait that is hidden elsewhere.
  for (const [head, trait, type] of code.matchAll(/^impl\b[^{;]*?(\w+)(?:<[^{;]*>)? for &?(?:mut )?(\w+)[^{;]*/gm)) {
    if (![trait, type].some((name) => hidden.has(name)) && isOurs(type, imported)) yield head;
  }
  for (const [head] of code.matchAll(/\bpub (?:const |async )*fn [^{;]*/g)) yield head;
  for (const [head] of code.matchAll(/\bpub type [^{;]*/g)) yield head;
  // Without their values.
  for (const [head] of code.matchAll(/\bpub (?:const|static) [^{;=]*/g)) yield head;
  // The fields of a tuple only if the first is public.
  for (const [head] of code.matchAll(/\bpub struct [^{;]*/g)) yield /\(\s*pub /.test(head) ? head : head.replace(/\([^]*/, "");
  for (const [field] of code.matchAll(/\bpub \w+: [^\n]*/g)) yield field;
  for (const [, body] of code.matchAll(/\bpub enum \w+[^{]*\{([^]*?)\n\}/g)) yield body.replace(/#\[[^\n]*/g, "");
  for (const [, head, body] of code.matchAll(/\bpub trait (\w+[^{]*)\{([^]*?)\n\}/g)) {
    yield head;
    for (const [item] of body.matchAll(/\n    (?:async )?(?:fn|type|const) [^{;]*/g)) yield item;
  }
}
