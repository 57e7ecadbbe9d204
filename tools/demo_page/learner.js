// The network: a LiteRT file with the signatures reset() -> state, learn(x, y, state) -> state
// and predict(x, state) -> outputs. The state, its fast weights, is passed in and out.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { SIZE } from "./drawing.js";

export const CLASSES = 5;

export class Learner {
  #model;
  #state = {};
  #last = Promise.resolve();

  constructor(model) {
    this.#model = model;
  }

  /** Loads LiteRT and the network, and starts a lifetime. */
  static async load() {
    await loadLiteRt("litert/wasm/");
    const learner = new Learner(await loadAndCompile("model.tflite", { accelerator: "wasm" }));
    await learner.reset();
    return learner;
  }

  /** Forgets all: the state becomes that of a new lifetime. */
  reset() {
    return this.#inTurn(async () => this.#replace(await this.#model.run("reset", {})));
  }

  /** Takes one inner step on an image [28 * 28], told that it is of class `label`. */
  learn(image, label) {
    const target = Float32Array.from({ length: CLASSES }, (_, i) => Number(i === label));
    return this.#inTurn(async () => this.#replace(await this.#run("learn", { x: image, y: target })));
  }

  /** Returns the probability of each class. */
  predict(image) {
    return this.#inTurn(async () => {
      const { outputs } = await this.#run("predict", { x: image });
      const values = outputs.toTypedArray();
      outputs.delete();
      const most = Math.max(...values);
      const odds = Array.from(values, (value) => Math.exp(value - most));
      const total = odds.reduce((sum, value) => sum + value, 0);
      return odds.map((value) => value / total);
    });
  }

  async #run(signature, { x, y }) {
    const inputs = { x: new Tensor(x, [1, SIZE, SIZE, 1]) };
    if (y) inputs.y = new Tensor(y, [1, CLASSES]);
    try {
      return await this.#model.run(signature, { ...inputs, ...this.#state });
    } finally {
      Object.values(inputs).forEach((tensor) => tensor.delete());
    }
  }

  #replace(state) {
    Object.values(this.#state).forEach((tensor) => tensor.delete());
    this.#state = state;
  }

  /** Does one thing after the other: no step may find a state that another is replacing. */
  #inTurn(task) {
    const result = this.#last.then(task);
    this.#last = result.catch(() => {});
    return result;
  }
}
