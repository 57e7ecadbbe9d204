// Paper that is drawn on with a pointer (mouse, finger, pen) or with the keyboard.

import { PAPER, trace } from "./drawing.js";

// How far the arrow keys move the pen, and how wide a line looks, in widths of the paper.
const STEP = 1 / 24;
const LINE = 5 / PAPER;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const inside = (value) => Math.min(1, Math.max(0, value));

export class Pad {
  /** Strokes: lists of points [x, y] in 0 to 1. */
  strokes = [];
  #canvas;
  #changed;
  #pen = [0.5, 0.5];
  #down = false;
  #held = new Set();

  /** `changed` is called after every change of the strokes. */
  constructor(canvas, changed) {
    this.#canvas = canvas;
    this.#changed = changed;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#go(event));
    // A stroke is no swipe: the tap that follows a swipe at once would be lost.
    canvas.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#press(event));
    canvas.addEventListener("keyup", (event) => this.#held.delete(event.key));
    canvas.addEventListener("focus", () => this.#show());
    canvas.addEventListener("blur", () => {
      this.#held.clear();
      this.#show();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#show());
  }

  /** Takes all strokes away; the pen stays where it is, lifted. */
  clear() {
    this.strokes = [];
    this.#down = false;
    this.#change();
  }

  #change() {
    this.#show();
    this.#changed();
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  }

  #begin(event) {
    if (!event.isPrimary || event.button) return;
    // Without it, the movement ends where the pointer leaves the paper.
    this.#canvas.setPointerCapture(event.pointerId);
    this.#down = false;
    this.strokes.push([this.#place(event)]);
    this.#change();
  }

  #go(event) {
    if (!event.isPrimary || !this.#canvas.hasPointerCapture(event.pointerId) || !this.strokes.length) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    for (const move of moves.length ? moves : [event]) this.strokes.at(-1).push(this.#place(move));
    this.#change();
  }

  #press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in ARROWS) this.#move(event.key);
    else if (event.key === " ") this.#setDown(event);
    else if (event.key === "Backspace" || event.key === "Delete") this.clear();
    else return;
    event.preventDefault();
  }

  #move(key) {
    this.#held.add(key);
    const steps = [...this.#held].map((held) => ARROWS[held]);
    this.#pen = this.#pen.map((value, axis) => inside(value + STEP * steps.reduce((sum, step) => sum + step[axis], 0)));
    if (this.#down) this.strokes.at(-1).push(this.#pen);
    this.#change();
  }

  #setDown(event) {
    if (event.repeat) return;
    this.#down = !this.#down;
    if (this.#down) this.strokes.push([this.#pen]);
    this.#change();
  }

  #show() {
    const { width } = this.#canvas;
    const context = this.#canvas.getContext("2d");
    const style = getComputedStyle(this.#canvas);
    context.clearRect(0, 0, width, width);
    context.strokeStyle = style.color;
    const large = (point) => point.map((value) => value * width);
    trace(context, this.strokes.map((stroke) => stroke.map(large)), LINE * width);
    if (!this.#canvas.matches(":focus-visible")) return;
    // The pen: a ring, filled while it is down.
    context.strokeStyle = context.fillStyle = style.getPropertyValue("--accent");
    context.lineWidth = width / 120;
    context.beginPath();
    context.arc(...large(this.#pen), width / 40, 0, 2 * Math.PI);
    context.stroke();
    if (this.#down) context.fill();
  }
}
