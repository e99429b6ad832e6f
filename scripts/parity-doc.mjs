// Reads documents that name tests by file and name, `channels/joining.rs: params_are_typed`.

/** The tests that are named. */
export function namesIn(doc) {
  const spans = [...doc.matchAll(/`([^`]+)`/g)].map(([, span]) => span.replaceAll(/\s+/g, " "));
  return spans.flatMap((span) => {
    const named = /^([\w./-]+\.(?:rs|mjs)): (.+)$/.exec(span);
    return named ? [{ file: named[1], name: named[2] }] : [];
  });
}

/** The rows of tables that have nothing beside what they ask for. */
export function rowsWithoutAnswer(doc) {
  const rows = doc.split("\n").filter((line) => line.startsWith("|") && !/^[|\s-]+$/.test(line));
  const cells = (row) => row.split("|").slice(1, -1).map((cell) => cell.trim());
  return rows.map(cells).filter((row) => row.length !== 2 || row.some((cell) => cell === "")).map((row) => row[0]);
}
