// Finds sentences to write anew in a source file or a document.

/** Phrases, wherever they stand: comments, log lines and texts of errors. */
const PHRASES = [
  [/none where/gi, "say `None if`"],
  [/needs not/g, "say `doesn't need to`"],
  [/[Ss]o many [^.]{0,60}?at most/g, "say `at most`, or `maximum`"],
  [/ it tries on\b/g, "say `retrying`"],
  [/in earnest/g, "say `in a real program`"],
];

/** A sentence whose subject is a bare word, up to its end. A question is one, and so is the head of a list. */
const BARE = /(?<=^|[.!?)"`*] |\n\n|\n[-*] )(Who|What|Where) [^]*?(?=[.!?:](\s|$)|\n\n|$)/g;

/**
 * @param {string} source
 * @param {boolean} isDocument Markdown; else a program or settings, whose comments are read.
 * @returns {{ line: number, what: string, text: string }[]} in the order of their lines
 */
export function findings(source, isDocument) {
  const found = [];
  for (const [phrase, what] of PHRASES) {
    for (const match of source.matchAll(phrase)) {
      found.push({ line: lineOf(source, match.index), what, text: match[0] });
    }
  }
  for (const { line, text } of isDocument ? [document(source)] : comments(source)) {
    for (const match of text.matchAll(BARE)) {
      const end = text[match.index + match[0].length];
      if (end === "?" || end === ":") continue;
      const what = `name what "${match[1]}" is`;
      found.push({ line: line + lineOf(text, match.index) - 1, what, text: match[0].slice(0, 60).replaceAll("\n", " ") });
    }
  }
  return found.sort((a, b) => a.line - b.line);
}

const lineOf = (text, index) => text.slice(0, index).split("\n").length;

/** The text of a document, its code blanked. */
function document(source) {
  let isCode = false;
  const lines = source.split("\n").map((line) => {
    const fence = line.trimStart().startsWith("```");
    if (fence) isCode = !isCode;
    return fence || isCode || line.startsWith("|") ? "" : line.replace(/^#+ .*/, "").replace(/^(\d+\.|>) /, "- ");
  });
  return { line: 1, text: lines.join("\n") };
}

/** Each run of whole-line comments, without their slashes, and each comment behind code. */
function comments(source) {
  const runs = [];
  let run;
  source.split("\n").forEach((text, index) => {
    const comment = /^\s*(?:\/\/[/!]? ?|\/\*\*? ?|\* |#(?!\[|!)+ |-- )(.*)$/.exec(text);
    const behind = comment ? undefined : /[;,{})] (?:\/\/|--|\/\*) (.*)$/.exec(text);
    if (comment) {
      if (!run) runs.push((run = { line: index + 1, lines: [] }));
      run.lines.push(comment[1]);
      return;
    }
    run = undefined;
    if (behind) runs.push({ line: index + 1, lines: [behind[1]] });
  });
  return runs.map(({ line, lines }) => ({ line, text: document(lines.join("\n")).text }));
}
