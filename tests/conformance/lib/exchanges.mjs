// Reads recorded HTTP: sections of one exchange each.
//
//   ## title                 a section
//   > METHOD path            the request; then `> name: value` lines, `>` and `> body` lines
//   < HTTP status            the answer; then `< name: value` lines, `<` and `< body` lines

/** The exchanges, each `{ title, request, response }`. */
export function parseExchanges(text) {
  return text.split(/^## /m).slice(1).map((section) => {
    const [title, ...lines] = section.split("\n");
    const [line, request] = parseHalf(lines, ">");
    const [method, path] = line.split(" ");
    const [status, response] = parseHalf(lines, "<");
    return { title, request: { method, path, ...request }, response: { status: Number(status.split(" ")[1]), ...response } };
  });
}

function parseHalf(lines, arrow) {
  const [first, ...rest] = lines.filter((line) => line.startsWith(arrow)).map((line) => line.slice(2));
  const blank = rest.indexOf("");
  const end = blank === -1 ? rest.length : blank;
  const headers = Object.fromEntries(rest.slice(0, end).map((line) => {
    const [, name, value] = /^([^:]+): ?(.*)$/.exec(line) ?? [];
    if (name === undefined) throw new Error(`no header: ${line}`);
    return [name, value];
  }));
  return [first, { headers, body: rest.slice(end + 1).join("\n") }];
}
