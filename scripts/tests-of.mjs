// The names of the tests in a file, as far as a reading without a compiler finds them.

/** Of a Rust or JavaScript source. */
export function testsOf(path, source) {
  return new Set(path.endsWith(".rs") ? ofRust(source) : ofNode(source));
}

function* ofRust(source) {
  // Further attributes may stand between the one that makes it a test and the function.
  for (const [, name] of source.matchAll(/#\[(?:tokio::)?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)/g)) yield name;
  for (const [, block] of source.matchAll(/^proptest! \{([\s\S]*?)^\}/gm)) {
    for (const [, name] of block.matchAll(/\bfn (\w+)/g)) yield name;
  }
  // A list of functions that a macro makes tests of, over each transport.
  for (const [, list] of source.matchAll(/^over_(?:both|all)!\(([\s\S]*?)\);/gm)) yield* list.match(/\w+/g) ?? [];
  // The checks of the suite for adapters.
  for (const [, name] of source.matchAll(/\bcheck\("([^"]+)"\)/g)) yield name;
}

function* ofNode(source) {
  // `play` is a test in a browser.
  for (const [, name] of source.matchAll(/\b(?:test|play)\(\s*"((?:[^"\\]|\\.)*)"/g)) yield name;
  // Scenarios that are run for each version of the client.
  for (const [, name] of source.matchAll(/^ {2}"((?:[^"\\]|\\.)*)": async /gm)) yield name;
}
