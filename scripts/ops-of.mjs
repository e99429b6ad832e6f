// Finds what rules and dashboards say of metrics that the table of metrics doesn't know.

/**
 * @typedef {{ kind: string, labels: Map<string, string[] | null> }} Metric its kind, and its labels with their values;
 * null if the program decides about them
 */

/**
 * @param {string} document docs/metrics.md
 * @returns {Map<string, Metric>} the metrics by name
 */
export function metricsOf(document) {
  const rows = document.matchAll(/^\| `(adsum_\w+)` \| (\w+) \| ([^|]*) \|/gm);
  return new Map(
    [...rows].map(([, name, kind, labels]) => {
      // `name`: one, two, three; `name`: what the values are
      const each = [...labels.matchAll(/`(\w+)`: ([^;]*)/g)].map(([, label, values]) => {
        const list = values.trim().split(", ");
        return [label, list.length > 1 ? list : null];
      });
      return [name, { kind, labels: new Map(each) }];
    }),
  );
}

/** Labels that Prometheus itself gives. */
const GIVEN = ["instance", "job", "le"];

/**
 * @param {string} text a rule file or a dashboard
 * @param {Map<string, Metric>} metrics
 * @returns {string[]} what is wrong
 */
export function unknown(text, metrics) {
  const wrong = new Set();
  for (const [, name, selector] of text.matchAll(/\b(adsum_\w+)\b(?:\{([^}]*)\})?/g)) {
    const base = name.replace(/_(bucket|sum|count)$/, "");
    const metric = metrics.get(name) ?? (metrics.get(base)?.kind === "histogram" ? metrics.get(base) : undefined);
    if (!metric) {
      wrong.add(`${name} is no metric`);
      continue;
    }
    // In JSON the quotes are escaped.
    for (const [, label, operator, value] of (selector ?? "").matchAll(/(\w+)\s*(=~|!~|!=|=)\s*\\?"([^"\\]*)/g)) {
      if (GIVEN.includes(label)) continue;
      const values = metric.labels.get(label);
      if (values === undefined) wrong.add(`${name} has no label ${label}`);
      const named = operator.endsWith("~") ? value.split("|").filter((part) => /^\w+$/.test(part)) : [value];
      for (const part of values ? named : []) {
        if (!values.includes(part)) wrong.add(`${name} has no ${label} ${part}`);
      }
    }
  }
  return [...wrong];
}
