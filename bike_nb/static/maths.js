// The viewer's maths and geometry: pure functions, the same formulas as bike_nb/spotting.py and bike_nb/explain.py.
// L tokens, T frames; a matrix lies row by row in one array. Tested by tests/js/ and, against Python, by tests/test_maths_js.py.

// Small helpers

// A number kept between low and high.
export const within = (x, low, high) => Math.min(Math.max(x, low), high);

// [lowest, highest] of numbers; NaN among them makes both NaN.
export function extremes(x) {
  let low = Infinity, high = -Infinity;
  for (const v of x) { low = Math.min(low, v); high = Math.max(high, v); }
  return [low, high];
}

// Text base64 of little-endian float32 → Float32Array.
export function decodeF32(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return new Float32Array(bytes.buffer);   // browsers run on little-endian machines only
}

// Concept spotting

// Softmax over time of cosines (L,T) divided by the temperature: weights (L,T), each row sums to one.
export function tokenWeights(cos, T, tau) {
  const weights = new Float64Array(cos.length);
  for (let row = 0; row < cos.length; row += T) {
    let high = -Infinity, sum = 0;
    for (let t = row; t < row + T; t++) high = Math.max(high, cos[t]);
    for (let t = row; t < row + T; t++) sum += weights[t] = Math.exp((cos[t] - high) / tau);   // never overflows
    for (let t = row; t < row + T; t++) weights[t] /= sum;
  }
  return weights;
}

// Mean of the weights (L,T) over the tokens that vote (L,): saliency (T,); null if none does.
export function saliency(weights, votes, T) {
  const mean = new Float64Array(T);
  let voters = 0;
  for (let j = 0; j < votes.length; j++) {
    if (!votes[j]) continue;
    voters++;
    for (let t = 0; t < T; t++) mean[t] += weights[j * T + t];
  }
  return voters ? mean.map(v => v / voters) : null;
}

// Sum of products, (T,) · (T,): the score, where one is a saliency and the other a cosine.
export function dot(a, b) {
  let sum = 0;
  for (let t = 0; t < a.length; t++) sum += a[t] * b[t];
  return sum;
}

// Which tokens vote (L,): switched on by their kind, unless overrides {j: bool} say something else.
export const votesOf = (kinds, on, overrides = {}) => Uint8Array.from(kinds, (kind, j) => overrides[j] ?? on[kind]);

// Indices (C,) of the scores, best first; equals in order, NaN last.
export function ranking(scores) {
  const key = Array.from(scores, s => Number.isNaN(s) ? -Infinity : s);
  return [...key.keys()].sort((i, j) => key[j] - key[i]);
}

// Rows of the token map: {kind, tokens: [j…]}, one a token; padding is folded into one row.
export function rowsOfTokens(kinds, unfolded = false) {
  const rows = [];
  let padding = null;
  [...kinds].forEach((kind, j) => {
    if (kind === "p" && padding && !unfolded) return padding.tokens.push(j);
    const row = { kind, tokens: [j] };
    if (kind === "p") padding = row;
    rows.push(row);
  });
  return rows;
}

// Time

// Borders (T+1,) between the frames: half-way, and the ends of the clip.
export function frameEdges(times, start, end) {
  const T = times.length, edges = new Float64Array(T + 1);
  for (let i = 1; i < T; i++) edges[i] = (times[i - 1] + times[i]) / 2;
  edges[0] = Math.min(start, times[0]);
  edges[T] = Math.max(end, times[T - 1]);
  return edges;
}

// Index of the frame within whose borders (T+1,) a time lies; the first or last beyond them.
export function frameAt(edges, t) {
  let i = 0;
  while (i < edges.length - 2 && t >= edges[i + 1]) i++;
  return i;
}

// Index of the frame nearest to a time; half-way, the later one, as `frameAt` has it.
export const nearestFrame = (times, t) => frameAt(frameEdges(times, -Infinity, Infinity), t);

// Index of the frame before (-1) or after (+1) the one nearest to a time.
export const step = (times, t, by) => within(nearestFrame(times, t) + by, 0, times.length - 1);

// When a concept shows most, [[start, end], …]: runs of frames whose cosine (T,) lies above the middle (share) of its range.
export function findWindows(cosine, edges, share = .5) {
  const round = cosine instanceof Float32Array ? Math.fround : x => x;   // NumPy's float32 stays float32
  const [low, high] = extremes(cosine), range = round(high - low), middle = round(low + round(share * range));
  const windows = [];
  if (!(range > round(1e-6))) return windows;
  cosine.forEach((c, t) => {
    if (!(c >= middle)) return;
    if (t > 0 && cosine[t - 1] >= middle) windows.at(-1)[1] = edges[t + 1];
    else windows.push([edges[t], edges[t + 1]]);
  });
  return windows;
}

// From n groups of neighbouring frames the one in which some curve (T,) of a list is strongest: n indices, rising.
export function chooseFrames(strengths, n) {
  const T = strengths.length ? strengths[0].length : 0, groups = within(n, 1, T), best = new Float64Array(T).fill(-Infinity);
  for (const curve of strengths) {
    const high = extremes(curve)[1];
    for (let t = 0; t < T; t++) best[t] = Math.max(best[t], curve[t] / high);
  }
  const size = Math.floor(T / groups), larger = T % groups, chosen = [];
  for (let g = 0, t = 0; g < groups && t < T; g++) {
    const stop = t + size + (g < larger);
    let top = t;
    for (; t < stop; t++) if (best[t] > best[top]) top = t;
    chosen.push(top);
  }
  return chosen;
}

// Words and numbers

// A number with so many decimals, rounded as Python does: a tie goes to the even neighbour.
function fixed(x, digits) {
  if (!Number.isFinite(x)) return String(x).toLowerCase().replace("infinity", "inf");
  const size = Math.abs(x);
  if (size * 2 ** (digits + 1) % 2 !== 1) return x.toFixed(digits);   // only an odd multiple of 1/2^(digits+1) is a tie
  const below = Math.floor(size * 10 ** digits);
  return (Math.sign(x) * (below + below % 2) / 10 ** digits).toFixed(digits);
}

// A number for a table, without a minus before zero.
export function number(x, digits = 3) {
  const text = fixed(x, digits);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

// A time as people write it in a clip that ends at `length` seconds: 0.25, 2.5, 1:05, 1:02:05.
export function clock(t, length) {
  if (length <= 120) return fixed(t, length < 2 ? 2 : 1);
  const seconds = Math.trunc(t), minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
  const two = n => String(n).padStart(2, "0");
  return t >= 3600 ? `${hours}:${two(minutes - 60 * hours)}:${two(seconds - 60 * minutes)}` : `${minutes}:${two(seconds - 60 * minutes)}`;
}

// One window: "1.2–3.4 s", "1:05–1:10", or the frames inside it, "frames 3–5". length: the last edge, as for `clock`.
export function spellWindow([a, b], length, unit, times) {
  if (unit !== "frame") return `${clock(a, length)}–${clock(b, length)}` + (length > 120 ? "" : " s");
  const inside = Array.from(times).filter(t => t >= a && t <= b).map(Math.trunc);
  if (!inside.length) return "no frame";
  return inside.length === 1 ? `frame ${inside[0]}` : `frames ${inside[0]}–${inside.at(-1)}`;
}

// Windows in words: the first few, and how many more.
export function spellWindows(windows, length, unit, times, most = 3) {
  if (!windows.length) return "equally in all frames";
  const said = windows.slice(0, most).map(w => spellWindow(w, length, unit, times)).join(", ");
  return said + (windows.length > most ? ` and ${windows.length - most} more` : "");
}

// Geometry

// Cosines, a list of (T,), on one scale: 0 is the lowest, or a cosine of zero if there are lower ones; 1 is the highest, or `top`, which
// what fits the clip best reaches: without it a concept that is nowhere in the clip would reach 1 where it is alone.
export function scaledCosine(cosines, top = -Infinity) {
  const ends = cosines.map(extremes), high = Math.max(top, extremes(ends.map(e => e[1]))[1]);
  let low = extremes(ends.map(e => e[0]))[0];
  if (high > 0) low = Math.max(low, 0);
  return cosines.map(x => Float64Array.from(x, c => within((c - low) / Math.max(high - low, 1e-6), 0, 1)));
}

// A scale from values a…b to places lo…hi, and back; back it never leaves a…b.
export function linear(a, b, lo, hi) {
  const slope = (hi - lo) / (b - a || 1);
  return { to: x => lo + slope * (x - a), from: y => within(a + (slope ? (y - lo) / slope : 0), Math.min(a, b), Math.max(a, b)) };
}

// A scale from 0…steps to lo…hi whose steps are equal ratios, to three significant digits, and back.
export function logScale(lo, hi, steps) {
  const value = i => Number((lo * (hi / lo) ** (i / steps)).toPrecision(3));
  return { value, index: v => within(Math.round(steps * Math.log(v / lo) / Math.log(hi / lo)), 0, steps) };
}

// Round numbers within a…b, at most so many: multiples of 1, 2, 2.5 or 5 times a power of ten; whole ones where asked for.
export function niceTicks(a, b, most, whole = false) {
  if (!(b > a && b - a < Infinity)) return a === b ? [a] : [];
  const power = 10 ** Math.floor(Math.log10((b - a) / Math.max(most, 1))), least = whole ? Math.max(power, 1) : power;
  for (const size of [1, 2, 2.5, 5, 10, 20, 25, 50].map(m => m * least)) {
    const first = Math.ceil(a / size - 1e-9), count = Math.floor(b / size + 1e-9) - first + 1;
    if (count > Math.max(most, 1) || whole && size % 1) continue;
    return Array.from({ length: count }, (_, i) => Number(((first + i) * size).toPrecision(12)) + 0);
  }
}

// An SVG path through points (T,), (T,), with two decimals; NaN breaks it.
export function polyline(xs, ys) {
  let path = "", pen = "M";
  for (let t = 0; t < xs.length; t++) {
    if (Number.isFinite(xs[t] + ys[t])) { path += `${pen}${+xs[t].toFixed(2)},${+ys[t].toFixed(2)}`; pen = "L"; }
    else pen = "M";
  }
  return path;
}

// The places nearest to the wishes (n,), rising, at which things of one size stand side by side within low…high.
export function spread(wishes, size, low, high) {
  const n = wishes.length, room = Math.min(size, (high - low) / n), pools = [];
  for (let i = 0; i < n; i++) {
    pools.push([wishes[i] - i * room, 1]);
    for (let [a, b] = pools.slice(-2); b && a[0] * b[1] >= b[0] * a[1]; [a, b] = pools.slice(-2)) {   // where they collide, at their mean
      pools.pop();
      a[0] += b[0]; a[1] += b[1];
    }
  }
  const best = pools.flatMap(([total, count]) => Array(count).fill(total / count));
  return best.map((x, i) => within(x, low + room / 2, high - room / 2 - (n - 1) * room) + room * i);
}

// Colour

// OKLab → [r, g, b] in 0…255.
function srgb(L, a, b) {
  const [l, m, s] = [L + .3963377774 * a + .2158037573 * b, L - .1055613458 * a - .0638541728 * b, L - .0894841775 * a - 1.291485548 * b].map(x => x ** 3);
  const light = [4.0767416621 * l - 3.3077115913 * m + .2309699292 * s, -1.2684380046 * l + 2.6097574011 * m - .3413193965 * s, -.0041960863 * l - .7034186147 * m + 1.707614701 * s];
  return light.map(x => Math.round(255 * within(x > .0031308 ? 1.055 * x ** (1 / 2.4) - .055 : 12.92 * x, 0, 1)));
}

// A colour [r, g, b] for 0…1: from the paper to deep blue, or in the dark from the paper to pale yellow. Lightness alone tells the value.
export function heat(v, dark = false) {
  const x = within(Number.isNaN(v) ? 0 : v, 0, 1), stops = dark ? HEAT_DARK : HEAT_LIGHT;
  const i = Math.min(Math.floor(x * (stops.length - 1)), stops.length - 2), f = x * (stops.length - 1) - i;
  return srgb(...stops[i].map((p, k) => p + f * (stops[i + 1][k] - p)));
}
const HEAT_LIGHT = [[1, 0, 0], [.83, -.06, .03], [.66, -.09, -.05], [.48, -.03, -.12], [.30, .01, -.12]];   // OKLab, equal steps
const HEAT_DARK = [[.178, 0, 0], [.36, .03, -.10], [.56, .07, -.04], [.76, .03, .08], [.95, -.02, .09]];
