// From strokes to the image that the network sees, the way Omniglot's drawings became the
// images of meta-training: 105 x 105 pixels, each ink or paper, lines 5 pixels wide, then
// scaled to 28 x 28 with antialiasing (flp_tf/tasks/images/cache.py). Ink is 1.

export const PAPER = 105;
export const SIZE = 28;
const PEN = 5;
// Longer side of a drawing, to the middle of its lines: the median of Omniglot's.
const EXTENT = 64;
// A dot stays a dot: nothing grows or shrinks by more.
const MOST = 2;

/** Returns strokes in the middle of the paper and as large as Omniglot's; points are [x, y] in 0 to 1. */
export function placed(strokes) {
  const points = strokes.flat();
  const ends = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis] * PAPER);
    return [Math.min(...values), Math.max(...values)];
  });
  const longest = Math.max(...ends.map(([low, high]) => high - low));
  const scale = Math.min(MOST, Math.max(1 / MOST, EXTENT / longest));
  const place = (point) =>
    point.map((value, axis) => PAPER / 2 + scale * (value * PAPER - (ends[axis][0] + ends[axis][1]) / 2));
  return strokes.map((stroke) => stroke.map(place));
}

/** Draws strokes as lines with round ends. */
export function trace(context, strokes, width) {
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(...stroke[0]);
    for (const point of stroke) context.lineTo(...point);
    context.stroke();
  }
}

/** Returns strokes as ink (1) or paper (0), row by row. */
export function inked(strokes) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = PAPER;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  trace(context, placed(strokes), PEN);
  const pixels = context.getImageData(0, 0, PAPER, PAPER).data;
  return Float32Array.from({ length: PAPER * PAPER }, (_, i) => (pixels[4 * i + 3] > 127 ? 1 : 0));
}

/** Returns, for each new pixel, the old pixels that it covers and their weights: a triangle, as tf.image.resize has. */
function coverage() {
  const ratio = PAPER / SIZE;
  return Array.from({ length: SIZE }, (_, i) => {
    const middle = (i + 0.5) * ratio;
    const first = Math.max(0, Math.ceil(middle - ratio - 0.5));
    const last = Math.min(PAPER - 1, Math.floor(middle + ratio - 0.5));
    const weights = [];
    for (let j = first; j <= last; j++) weights.push(Math.max(0, 1 - Math.abs(j + 0.5 - middle) / ratio));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
}

const COVERAGE = coverage();

/** Returns a drawing of 105 x 105 as an image of 28 x 28, in steps of 1/255 as the cached images are. */
export function scaled(drawing) {
  const rows = new Float32Array(SIZE * PAPER);
  COVERAGE.forEach(({ first, weights }, y) => {
    weights.forEach((weight, k) => {
      for (let x = 0; x < PAPER; x++) rows[y * PAPER + x] += weight * drawing[(first + k) * PAPER + x];
    });
  });
  return Float32Array.from({ length: SIZE * SIZE }, (_, i) => {
    const { first, weights } = COVERAGE[i % SIZE];
    const row = Math.floor(i / SIZE) * PAPER;
    const ink = weights.reduce((sum, weight, k) => sum + weight * rows[row + first + k], 0);
    return Math.round(255 * ink) / 255;
  });
}
