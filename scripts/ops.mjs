#!/usr/bin/env node
// Checks the rules and the dashboard in ops/: every metric and label that they name is in docs/metrics.md, which a test
// holds to the code; promtool accepts the rules, and they fire when they should.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { metricsOf, unknown } from "./ops-of.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const metrics = metricsOf(readFileSync(`${root}docs/metrics.md`, "utf8"));
const files = readdirSync(`${root}ops`).filter((file) => /\.(ya?ml|json)$/.test(file));

let wrong = 0;
for (const file of files) {
  const text = readFileSync(`${root}ops/${file}`, "utf8");
  if (file.endsWith(".json")) JSON.parse(text);
  for (const what of unknown(text, metrics)) {
    wrong += 1;
    console.error(`ops/${file}: ${what}`);
  }
}
// Each query of the dashboard as a rule, with something in the place of Grafana's variables: is it PromQL?
const queries = JSON.parse(readFileSync(`${root}ops/grafana.json`, "utf8"))
  .panels.flatMap((panel) => panel.targets ?? [])
  .map(({ expr }) => expr.replaceAll("$__rate_interval", "5m").replaceAll("$instance", ".*"));
const rules = queries.map((expr, n) => ({ record: `query:${n}`, expr }));
const folder = mkdtempSync(join(tmpdir(), "adsum-ops-"));
writeFileSync(join(folder, "queries.json"), JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
try {
  execFileSync("promtool", ["check", "rules", join(folder, "queries.json")], { stdio: ["ignore", "ignore", "inherit"] });
} finally {
  rmSync(folder, { recursive: true });
}
for (const arguments_ of [["check", "rules", "ops/alerts.yml"], ["test", "rules", "ops/alerts.test.yml"]]) {
  execFileSync("promtool", arguments_, { cwd: root, stdio: "inherit" });
}
console.log(`${files.length} files in ops/, ${queries.length} queries, ${metrics.size} metrics, ${wrong} unknown`);
process.exitCode = files.length > 0 && metrics.size > 0 && wrong === 0 ? 0 : 1;
