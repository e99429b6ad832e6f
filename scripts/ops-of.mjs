// Finds what rules and dashboards say of metrics that the table of metrics doesn't know.

/**
 * @param {string} document docs/metrics.md
 * @returns {Map<string, { kind: string, labels: string[] }>} the metrics by name
 */
export function metricsOf(document) {
  const rows = document.matchAll(/^\| `(adsum_\w+)` \| (\w+) \| ([^|]*) \|/gm);
  return new Map(
    [...rows].map(([, name, kind, labels]) => {
      // `name`: values; `name`: values
      const names = [...labels.matchAll(/`(\w+)`:/g)].map(([, label]) => label);
      return [name, { kind, labels: names }];
    }),
  );
}

/** Labels that Prometheus itself gives. */
const GIVEN = ["instance", "job", "le"];

/**
 * @param {string} text a rule file or a dashboard
 * @param {Map<string, { kind: string, labels: string[] }>} metrics
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
    for (const [, label] of (selector ?? "").matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)) {
      if (!metric.labels.includes(label) && !GIVEN.includes(label)) wrong.add(`${name} has no label ${label}`);
    }
  }
  return [...wrong];
}
