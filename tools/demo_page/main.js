// The page: what is drawn is guessed; what is named is learned.

import { inked, scaled, SIZE } from "./drawing.js";
import { CLASSES, Learner } from "./learner.js";
import { Pad } from "./pad.js";

// Drawings of each class, as many as in a lifetime of meta-training.
const SHOTS = 5;
// From these probabilities on, a guess is certain, or likely.
const SURE = 0.9;
const LIKELY = 0.5;

const element = (id) => document.getElementById(id);
const percent = (value) => `${Math.round(100 * value)} %`;

function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A class: its row in the page, and the images that were learned. */
class Row {
  images = [];

  constructor(label) {
    this.label = label;
    this.radio = make("input", { type: "radio", name: "class", value: label });
    this.slots = Array.from({ length: SHOTS }, () =>
      make("span", { className: "drawing" }, make("canvas", { width: SIZE, height: SIZE })),
    );
    this.bar = make("span", { className: "bar" });
    this.output = make("output", {});
    const chance = make("span", { className: "chance" }, this.bar, this.output);
    const drawings = make("span", { className: "drawings", ariaHidden: "true" }, ...this.slots);
    const number = make("span", { className: "number" }, String(label + 1));
    this.root = make("label", { className: "class" }, this.radio, number, drawings, chance);
    this.name();
  }

  get full() {
    return this.images.length === SHOTS;
  }

  name() {
    this.radio.ariaLabel = `Character ${this.label + 1}, ${this.images.length} of ${SHOTS} drawings learned`;
  }

  add(image) {
    const canvas = this.slots[this.images.length].firstChild;
    const context = canvas.getContext("2d");
    const ink = getComputedStyle(canvas).color;
    image.forEach((value, i) => {
      context.globalAlpha = value;
      context.fillStyle = ink;
      context.fillRect(i % SIZE, Math.floor(i / SIZE), 1, 1);
    });
    this.images.push(image);
    this.name();
  }

  /** Shows how sure the network is of a drawing that it learned. */
  remember(index, probability) {
    this.slots[index].style.setProperty("--sureness", probability);
    this.slots[index].title = `Recognised with ${percent(probability)}`;
  }

  clear() {
    this.images = [];
    for (const slot of this.slots) {
      slot.firstChild.getContext("2d").clearRect(0, 0, SIZE, SIZE);
      slot.style.removeProperty("--sureness");
      slot.title = "";
    }
    this.name();
  }

  /** Shows a probability, or nothing if there is no drawing. */
  show(probability, guessed) {
    this.bar.style.setProperty("--chance", probability ?? 0);
    this.output.textContent = probability === undefined ? "" : percent(probability);
    this.root.classList.toggle("guessed", guessed);
  }
}

const rows = Array.from({ length: CLASSES }, (_, label) => new Row(label));
const pad = new Pad(element("pad"), refresh);
let learner;
// Whether something changed that was not guessed yet, and whether a guess is being made.
let due = false;
let guessing = false;

const chosen = () => rows.find((row) => row.radio.checked);
const image = () => scaled(inked(pad.strokes));

function choose(row) {
  row.radio.checked = true;
  refresh();
}

/** Guesses again, once for all that changed since the last frame. */
async function refresh() {
  due = true;
  if (!learner || guessing) return;
  guessing = true;
  element("guess").ariaBusy = "true";
  while (due) {
    await new Promise(requestAnimationFrame);
    due = false;
    show(pad.strokes.length ? await learner.predict(image()) : undefined);
  }
  guessing = false;
  element("guess").ariaBusy = "false";
}

function show(probabilities) {
  const order = rows.map((row) => row.label).sort((one, other) => probabilities?.[other] - probabilities?.[one]);
  const most = probabilities?.[order[0]];
  const began = rows.some((row) => row.images.length);
  rows.forEach((row) => row.show(probabilities?.[row.label], began && most >= SURE && row.label === order[0]));
  element("guess").classList.toggle("sure", began && most >= SURE);
  tell(probabilities ? guess(order, most, began) : request());
  const row = chosen();
  element("learn").textContent = row.full ? `${row.label + 1} has its ${SHOTS} drawings` : `Learn: this is ${row.label + 1}`;
  element("learn").disabled = !probabilities || row.full;
  element("clear").disabled = !probabilities;
}

function tell(text) {
  // Screen readers read it at every change.
  if (element("guess").textContent !== text) element("guess").textContent = text;
}

function guess([first, second], most, began) {
  if (!began) return "Nothing is learned yet, so it cannot tell.";
  if (most >= SURE) return `This is ${first + 1}.`;
  return most >= LIKELY ? `Perhaps ${first + 1}.` : `Is it ${first + 1} or ${second + 1}?`;
}

function request() {
  if (rows.every((row) => row.full)) return "Now draw any of the five, and it guesses.";
  const row = chosen();
  return row.full ? "Choose the next character." : `Draw character ${row.label + 1} (${row.images.length + 1} of ${SHOTS}).`;
}

async function learn() {
  const row = chosen();
  if (!learner || !pad.strokes.length || row.full) return;
  const drawn = image();
  row.add(drawn);
  pad.clear();
  const next = row.full && rows.find((other) => !other.full);
  if (next) choose(next);
  const began = performance.now();
  await learner.learn(drawn, row.label);
  const took = `the last took ${(performance.now() - began).toFixed(1)} ms`;
  element("cost").textContent = `LiteRT steps the network in WebAssembly, once for each drawing (${took}).`;
  await remember();
}

async function remember() {
  for (const row of rows) {
    for (const [index, drawing] of row.images.entries()) {
      const probabilities = await learner.predict(drawing);
      // Meanwhile it may have been forgotten.
      if (row.images[index] === drawing) row.remember(index, probabilities[row.label]);
    }
  }
}

function forget() {
  // What comes later waits for it.
  learner.reset();
  rows.forEach((row) => row.clear());
  pad.clear();
  choose(rows[0]);
}

function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (rows[event.key - 1]) choose(rows[event.key - 1]);
  if (event.key === "Enter" && event.target === element("pad")) learn();
}

element("classes").append(...rows.map((row) => row.root));
element("classes").addEventListener("change", refresh);
element("learn").addEventListener("click", learn);
element("clear").addEventListener("click", () => pad.clear());
element("reset").addEventListener("click", forget);
document.addEventListener("keydown", press);
addEventListener("unhandledrejection", ({ reason }) => tell(`It fails: ${reason.message}`));
choose(rows[0]);
try {
  learner = await Learner.load();
  element("reset").disabled = false;
  refresh();
} catch (error) {
  tell(`The network does not run in this browser: ${error.message}`);
}

export { learner };
