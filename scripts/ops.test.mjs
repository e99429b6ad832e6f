import assert from "node:assert/strict";
import { test } from "node:test";

import { metricsOf, unknown } from "./ops-of.mjs";

const metrics = metricsOf(
  [
    "| name | kind | labels | meaning |",
    "| `adsum_a_total` | counter | `reason`: x, y; `node`: names | A. |",
    "| `adsum_b_seconds` | histogram |  | B. |",
  ].join("\n"),
);

test("the table's rows are read", () => {
  assert.deepEqual([...metrics.keys()], ["adsum_a_total", "adsum_b_seconds"]);
  const labels = new Map([["reason", ["x", "y"]], ["node", null]]);
  assert.deepEqual(metrics.get("adsum_a_total"), { kind: "counter", labels });
});

test("a known metric with its labels is fine, and so are a histogram's parts", () => {
  assert.deepEqual(unknown('rate(adsum_a_total{reason="x", instance=~"$i"}[5m])', metrics), []);
  assert.deepEqual(unknown("adsum_b_seconds_bucket adsum_b_seconds_sum", metrics), []);
});

test("an unknown metric, part or label is found", () => {
  assert.deepEqual(unknown("adsum_c_total", metrics), ["adsum_c_total is no metric"]);
  assert.deepEqual(unknown("adsum_a_total_bucket", metrics), ["adsum_a_total_bucket is no metric"]);
  assert.deepEqual(unknown('adsum_a_total{topic!="x"}', metrics), ["adsum_a_total has no label topic"]);
});

test("a value that a label never has is found, in a rule and in a dashboard", () => {
  const found = ["adsum_a_total has no reason z"];
  assert.deepEqual(unknown('adsum_a_total{node="any", reason!="z"}', metrics), found);
  assert.deepEqual(unknown('adsum_a_total{reason=~"x|z"}', metrics), found);
  assert.deepEqual(unknown(JSON.stringify('adsum_a_total{instance=~"$i", reason="z"}'), metrics), found);
  assert.deepEqual(unknown('adsum_a_total{reason=~"$reason"} adsum_a_total{reason=~"x|y"}', metrics), []);
});
