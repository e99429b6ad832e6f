// Reads recorded traffic: sections of steps, in the order in which they were seen.
//
//   ## title                            a section
//   NAME HTTP 101 {headers}             NAME connected (403: was refused)
//   [ 12ms] NAME -> text                NAME sent; likewise `<-` for what it received
//   NAME -> BIN hex "text"              a binary frame;  NAME -> PING hex, NAME <- PONG hex
//   NAME closed code=1011 reason=""     the end of a connection

const LINE = /^(?:\[ *\d+ms\] )?(\S+) (.*)$/s;

/** The sections, each `{ title, steps }`; lines that say nothing of the kind above are an error. */
export function parseRecording(text) {
  const sections = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.startsWith("## ")) {
      sections.push({ title: line.slice(3).trim(), steps: [] });
    } else if (line !== "" && !line.startsWith("# ")) {
      const step = parseStep(line);
      if (step === undefined || sections.length === 0) throw new Error(`line ${index + 1} is no step: ${line}`);
      sections.at(-1).steps.push({ ...step, line: index + 1 });
    }
  }
  return sections;
}

function parseStep(line) {
  const [, name, rest] = LINE.exec(line) ?? [];
  if (name === undefined) return undefined;
  const http = /^(?:-> )?HTTP (\d+)/.exec(rest);
  if (http) return { kind: "connect", name, status: Number(http[1]) };
  const closed = /^closed code=(\d+) reason="(.*)"$/.exec(rest);
  if (closed) return { kind: "close", name, code: Number(closed[1]) };
  const [, arrow, content] = /^(->|<-) (.*)$/s.exec(rest) ?? [];
  if (arrow === undefined) return undefined;
  return { kind: arrow === "->" ? "send" : "receive", name, ...parseContent(content) };
}

function parseContent(content) {
  const [, form, hex] = /^(BIN|PING|PONG) ([0-9a-f]*)/.exec(content) ?? [];
  if (form === undefined) return { text: content };
  return { [{ BIN: "binary", PING: "ping", PONG: "pong" }[form]]: hex };
}
