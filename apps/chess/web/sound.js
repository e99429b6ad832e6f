// Sounds, made by the page itself: off until somebody wants them, and remembered.

import { $ } from "./dom.js";

const KEY = "sound";
const button = $("#sound");

let context = null;
let isOn = stored() === "on";

/** A browser may keep nothing for a page. */
function stored() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export function wantsSound() {
  return isOn;
}

function showButton() {
  button.setAttribute("aria-pressed", String(wantsSound()));
}

button.addEventListener("click", () => {
  isOn = !isOn;
  try {
    localStorage.setItem(KEY, isOn ? "on" : "off");
  } catch {
    // It is forgotten with the page.
  }
  showButton();
  play("move");
});
showButton();

/** `move`, `capture`, `check` or `time`. */
export function play(kind) {
  if (!wantsSound()) return;
  context ??= new AudioContext();
  // Until the first click in the page the browser allows no sound.
  if (context.state === "suspended") context.resume();
  if (kind === "move") knock(900, 0.07);
  else if (kind === "capture") knock(420, 0.13);
  else for (const [index, pitch] of (kind === "check" ? [587, 784] : [784, 587]).entries()) tone(pitch, index * 0.12);
}

/** Wood on wood: a short noise through a filter. */
function knock(pitch, seconds) {
  const buffer = context.createBuffer(1, context.sampleRate * seconds, context.sampleRate);
  const samples = buffer.getChannelData(0);
  samples.forEach((_, index) => (samples[index] = (Math.random() * 2 - 1) * (1 - index / samples.length) ** 4));
  const source = new AudioBufferSourceNode(context, { buffer });
  source.connect(new BiquadFilterNode(context, { type: "bandpass", frequency: pitch, Q: 1.2 })).connect(context.destination);
  source.start();
}

function tone(frequency, after) {
  const start = context.currentTime + after;
  const source = new OscillatorNode(context, { type: "sine", frequency });
  const volume = new GainNode(context, { gain: 0 });
  volume.gain.setValueAtTime(0.12, start);
  volume.gain.exponentialRampToValueAtTime(0.001, start + 0.2);
  source.connect(volume).connect(context.destination);
  source.start(start);
  source.stop(start + 0.2);
}
