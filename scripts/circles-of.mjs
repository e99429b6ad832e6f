// Finds which file of a Rust crate names something of which other, and the circles among them. It reads the text, not the
// compiler's mind: what a glob or a macro brings in is overlooked, and so are tests.

import { paths } from "./use-paths.mjs";

/**
 * @param {Map<string, string>} sources by path below `src`, such as `log/limit.rs`
 * @returns {{from: string, to: string, name: string, isByFace: boolean}[]} what each module names of which other
 */
export function arrows(sources) {
  const files = new Map([...sources].map(([path, source]) => [moduleOf(path), read(source)]));
  const found = new Map();
  for (const [from, { named }] of files) {
    for (const segments of named) {
      const target = resolve(files, absolute(files, from, segments));
      if (!target || target.module === from) continue;
      const arrow = { from, to: target.module, name: target.name, isByFace: target.isByFace === true && from !== "" };
      found.set(JSON.stringify(arrow), arrow);
    }
  }
  return [...found.values()];
}

/**
 * Circles among the modules of one parent, each taken with all that is below it. What goes between a module and those
 * above it counts for none: a parent and its children are one room.
 *
 * @returns {{modules: string[], arrows: {from: string, to: string, name: string}[]}[]}
 */
export function circles(found) {
  const levels = new Map();
  for (const arrow of found) {
    const between = siblings(arrow.from, arrow.to);
    if (!between) continue;
    const { parent, a, b } = between;
    const level = levels.get(parent) ?? levels.set(parent, new Map()).get(parent);
    (level.get(a) ?? level.set(a, []).get(a)).push({ sibling: b, arrow });
  }
  return [...levels.values()].flatMap((level) =>
    components(level).map((modules) => {
      const within = ({ sibling }) => modules.includes(sibling);
      return { modules, arrows: modules.flatMap((module) => level.get(module).filter(within).map(({ arrow }) => arrow)) };
    }),
  );
}

/** The two modules of one parent that hold `from` and `to`. Undefined where one of them holds the other. */
function siblings(from, to) {
  const [a, b] = [from.split("::"), to.split("::")];
  let depth = 0;
  while (depth < a.length && a[depth] === b[depth]) depth += 1;
  if (from === "" || to === "" || depth === a.length || depth === b.length) return undefined;
  const upTo = (segments, length) => segments.slice(0, length).join("::");
  return { parent: upTo(a, depth), a: upTo(a, depth + 1), b: upTo(b, depth + 1) };
}

/** The strongly connected components of two modules or more, by Tarjan's algorithm. */
function components(level) {
  const [index, low, stack, result] = [new Map(), new Map(), [], []];
  const visit = (module) => {
    index.set(module, index.size);
    low.set(module, index.get(module));
    stack.push(module);
    for (const { sibling } of level.get(module) ?? []) {
      if (!index.has(sibling)) visit(sibling);
      if (stack.includes(sibling)) low.set(module, Math.min(low.get(module), low.get(sibling)));
    }
    if (low.get(module) !== index.get(module)) return;
    const component = stack.splice(stack.indexOf(module));
    if (component.length > 1) result.push(component.sort());
  };
  for (const module of level.keys()) if (!index.has(module)) visit(module);
  return result;
}

function moduleOf(path) {
  return path === "lib.rs" ? "" : path.replace(/(\/mod)?\.rs$/, "").replaceAll("/", "::");
}

/** The paths that a file names, those that it hands on, and its modules. */
function read(source) {
  const code = flat(
    source
      .replace(/\/\/[^\n]*/g, "")
      .replace(/\/\*[^]*?\*\//g, "")
      .replace(/'(?:[^'\\]|\\.)'/g, "' '")
      .replace(/r(#+)"[^]*?"\1/g, '""')
      .replace(/"(?:[^"\\]|\\.)*"/g, '""'),
  );
  const handed = new Map();
  const named = [];
  let rest = code;
  for (const [statement, visible, tree] of code.matchAll(/(pub(?:\([^)]*\))? )?\buse ([^;]+);/g)) {
    rest = rest.replace(statement, "");
    for (const { name, full } of paths(tree)) {
      if (visible) handed.set(name, full.split("::"));
      named.push(full.split("::"));
    }
  }
  const brought = new Map(named.map((segments) => [segments.at(-1), segments]));
  for (const [path] of rest.matchAll(/(?<![\w:$])[a-z_][a-z0-9_]*(?:::\w+)+/g)) {
    const [first, ...more] = path.split("::");
    named.push([...(brought.get(first) ?? [first]), ...more]);
  }
  const modules = new Set([...code.matchAll(/\bmod (\w+);/g)].map(([, name]) => name));
  return { named, handed, modules };
}

/** The code without what is compiled for tests only; a module that is written out in it is taken for a part of its file. */
function flat(code) {
  let result = code;
  for (let start; (start = result.search(/#\[cfg\((?:all\()?test\b/)) >= 0; ) {
    const item = result.indexOf("]", start) + 1;
    result = result.slice(0, start) + result.slice(endOfItem(result, item));
  }
  // From the last one, so that those before it stay where they are.
  for (const { index } of [...result.matchAll(/\bmod \w+ \{/g)].reverse()) {
    const end = endOfItem(result, index);
    result = result.slice(0, index) + result.slice(index, end).replaceAll("super::", "self::") + result.slice(end);
  }
  return result;
}

/** Where the item that begins at `start` has ended: after its semicolon, or the brace that closes it. */
function endOfItem(code, start) {
  let depth = 0;
  for (let end = start; end < code.length; end += 1) {
    if ("([{".includes(code[end])) depth += 1;
    if (")]}".includes(code[end])) depth -= 1;
    if (depth === 0 && ";},".includes(code[end])) return end + 1;
  }
  return code.length;
}

/** The path from the crate's root that `segments` mean in module `from`; none if they are of another crate. */
function absolute(files, from, segments) {
  const here = from === "" ? [] : from.split("::");
  const [first, ...rest] = segments;
  if (first === "crate" || first === "$crate") return rest;
  if (first === "self") return [...here, ...rest];
  if (first === "super") {
    let [up, path] = [here.slice(0, -1), rest];
    while (path[0] === "super") [up, path] = [up.slice(0, -1), path.slice(1)];
    return [...up, ...path];
  }
  if (files.get(from).modules.has(first)) return [...here, ...segments];
  return undefined;
}

/** The file in which a path ends, and whether it led through the crate's face. Re-exports are followed. */
function resolve(files, path, depth = 0) {
  if (!path || depth > 8) return undefined;
  let [module, rest] = ["", path];
  while (rest.length > 0 && files.has(join(module, rest[0]))) [module, rest] = [join(module, rest[0]), rest.slice(1)];
  if (rest.length === 0) return { module, name: "*" };
  const handed = files.get(module)?.handed.get(rest[0]);
  const onward = handed && resolve(files, absolute(files, module, [...handed, ...rest.slice(1)]), depth + 1);
  return { module, name: rest[0], ...onward, isByFace: module === "" && handed !== undefined };
}

function join(module, name) {
  return module === "" ? name : `${module}::${name}`;
}
