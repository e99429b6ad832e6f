// How things go over the last minutes.

import { el, number } from "./views.js";

/* global uPlot */

const HEIGHT = 180;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The change from one sample to the next, a second, summed over the nodes that are in both. */
function rate(samples, index, field) {
  if (index === 0) return null;
  const [before, now] = [samples[index - 1], samples[index]];
  const seconds = now.at - before.at;
  let sum = 0;
  for (const [name, { counts }] of Object.entries(now.nodes)) {
    const earlier = before.nodes[name]?.counts;
    if (counts && earlier) sum += Math.max(0, counts[field] - earlier[field]);
  }
  return seconds > 0 ? sum / seconds : null;
}

/** The last round trip to the engine, in milliseconds. It isn't measured every second. */
function roundTrip(samples, index) {
  for (let i = index; i > 0; i--) {
    const [before, now] = [samples[i - 1].engine, samples[i].engine];
    if (before && now && now[0] > before[0]) return (now[1] - before[1]) / (now[0] - before[0]);
  }
  return null;
}

const last = (values) => values.findLast((value) => value !== null && value !== undefined);

/** The plots: a title, a unit, and lines, each with a name and what it is at a sample. */
function plots(samples) {
  const names = [...new Set(samples.flatMap(({ nodes }) => Object.keys(nodes)))].sort();
  const here = (sample) => sample.nodes[sample.node];
  return [
    { title: "Presences and topics", unit: "", lines: [
      { name: "presences", at: (i) => here(samples[i])?.presences },
      { name: "topics", at: (i) => here(samples[i])?.topics },
    ] },
    { title: "Changes a second, all nodes", unit: "/s", lines: [
      { name: "joins", at: (i) => rate(samples, i, "joins") },
      { name: "leaves", at: (i) => rate(samples, i, "leaves") },
      { name: "diffs", at: (i) => rate(samples, i, "diffs") },
    ] },
    { title: "Messages a second, all nodes", unit: "/s", lines: [
      { name: "from clients", at: (i) => rate(samples, i, "messages_received") },
      { name: "to clients", at: (i) => rate(samples, i, "messages_sent") },
    ] },
    { title: "Bytes a second, all nodes", unit: " B/s", lines: [
      { name: "from clients", at: (i) => rate(samples, i, "bytes_received") },
      { name: "to clients", at: (i) => rate(samples, i, "bytes_sent") },
    ] },
    { title: "How long each node takes to answer", unit: " ms", lines:
      names.map((name) => ({ name, at: (i) => samples[i].nodes[name]?.after_ms })) },
    ...(samples.some(({ engine }) => engine) ? [
      { title: "This node's round trip to the engine", unit: " ms", lines: [{ name: "last", at: (i) => roundTrip(samples, i) }] },
    ] : []),
    { title: "How late this node's timer fires", unit: " ms", lines: [{ name: "late", at: (i) => samples[i].late_ms }] },
    ...(samples.some(({ sockets }) => sockets !== null) ? [
      { title: "Sockets of this node", unit: "", lines: [{ name: "sockets", at: (i) => samples[i].sockets?.[0] }] },
      { title: "Bytes that wait for them", unit: " B", lines: [{ name: "bytes", at: (i) => samples[i].sockets?.[1] }] },
    ] : []),
  ];
}

export function plotsView(page, main) {
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const area = el("div", { class: "plots" });
  main.append(el("h2", {}, "Plots"), el("p", {}, "One sample a second, for the last five minutes at most, since this page was opened."), area);
  let drawn = [];

  /** The width that a plot has in its figure, whose padding is 16 px. */
  const width = (figure) => Math.max(200, figure.clientWidth - 32);

  function draw() {
    for (const { plot } of drawn) plot.destroy();
    area.replaceChildren();
    drawn = plots(page.samples).map(({ title, unit, lines }) => {
      const now = el("p", { class: "now" });
      const canvas = el("div", { "aria-hidden": "true" });
      const figure = el("figure", { class: "card" }, el("figcaption", {}, title), now, canvas);
      area.append(figure);
      const axis = { stroke: style("--muted"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 } };
      const plot = new uPlot({
        width: width(figure),
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (_, least, most) => [Math.min(0, least ?? 0), Math.max(1, (most ?? 1) * 1.1)] } },
        axes: [axis, { ...axis, size: 56 }],
        series: [{}, ...lines.map(({ name }, index) => ({ label: name, stroke: style(`--series-${index % 6}`), width: 2, points: { show: false } }))],
      }, [[], ...lines.map(() => [])], canvas);
      return { figure, plot, now, unit, names: lines.map(({ name }) => name).join() };
    });
  }

  function fill() {
    const next = plots(page.samples);
    const isSame = next.length === drawn.length && next.every(({ lines }, i) => lines.map(({ name }) => name).join() === drawn[i].names);
    if (!isSame) draw();
    const times = page.samples.map(({ at }) => at);
    for (const [index, { lines }] of next.entries()) {
      const { plot, now, unit } = drawn[index];
      const values = lines.map(({ at }) => page.samples.map((_, i) => at(i) ?? null));
      plot.setData([times, ...values]);
      now.replaceChildren(...lines.flatMap(({ name }, line) => {
        const value = last(values[line]);
        const text = value === undefined ? "–" : `${number(Math.round(value * 10) / 10)}${unit}`;
        return [el("span", { class: `key series-${line % 6}` }, ""), el("span", {}, `${name} ${text} `)];
      }));
    }
  }

  const resized = () => { for (const { figure, plot } of drawn) plot.setSize({ width: width(figure), height: HEIGHT }); };
  const recolored = () => { drawn.forEach(({ plot }) => plot.destroy()); drawn = []; fill(); };
  addEventListener("resize", resized);
  scheme.addEventListener("change", recolored);
  return {
    sample: fill,
    leave() {
      removeEventListener("resize", resized);
      scheme.removeEventListener("change", recolored);
      for (const { plot } of drawn) plot.destroy();
      drawn = [];
    },
  };
}
