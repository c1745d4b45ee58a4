// node --test tests/js/maths.test.mjs: what the viewer's maths does at the edges. tests/test_maths_js.py compares it with Python.
import assert from "node:assert/strict";
import test from "node:test";
import { maths as m } from "./run.mjs";

const near = (got, want, tolerance = 1e-12) => {
  assert.equal(got.length, want.length);
  [...got].forEach((v, i) => assert.ok(Math.abs(v - want[i]) <= tolerance, `${v} at ${i}, not ${want[i]}`));
};
const base64 = numbers => Buffer.from(Float32Array.from(numbers).buffer).toString("base64");


// Concept spotting

test("float32 comes back from base64 as it was", () => {
  const x = [0, -0, 1.5, -3.25e-30, NaN, Infinity];
  assert.deepEqual([...m.decodeF32(base64(x))], [...Float32Array.from(x)]);
  assert.equal(m.decodeF32("").length, 0);
});

test("weights are a softmax over time, row by row", () => {
  const [a, b] = [Math.exp(.1 / .5), Math.exp(.3 / .5)];
  near(m.tokenWeights([.1, .3, .3, .1], 2, .5), [a / (a + b), b / (a + b), b / (a + b), a / (a + b)]);
});

test("rows sum to one for the sharpest temperature and for large numbers", () => {
  for (const tau of [1e-4, .005, .01, 1, 1e9]) for (const shift of [0, -1, 1000]) {
    const w = m.tokenWeights([.9, -.9, .2, .8, .1, .1].map(v => v + shift), 3, tau);
    near([w[0] + w[1] + w[2], w[3] + w[4] + w[5]], [1, 1]);
    assert.ok(w.every(v => v >= 0 && v <= 1));
  }
});

test("equal cosines weigh all frames alike, and one frame weighs 1", () => {
  near(m.tokenWeights([.2, .2, .2, .2], 4, .005), [.25, .25, .25, .25]);
  near(m.tokenWeights([.2, -.7], 1, .01), [1, 1]);
  near(m.saliency(m.tokenWeights([.2, -.7], 1, .01), [1, 1], 1), [1]);
});

test("a NaN stays within its token", () => {
  const w = m.tokenWeights([NaN, .2, .1, .1], 2, .01);
  assert.ok(Number.isNaN(w[0]) && Number.isNaN(w[1]));
  near(m.saliency(w, [0, 1], 2), [.5, .5]);
  assert.ok(m.saliency(w, [1, 1], 2).every(Number.isNaN));
});

test("saliency is the mean over those that vote, and there is none without votes", () => {
  const w = Float64Array.of(1, 0, 0, 1, .5, .5);
  near(m.saliency(w, Uint8Array.of(1, 1, 1), 2), [.5, .5]);
  near(m.saliency(w, Uint8Array.of(1, 0, 1), 2), [.75, .25]);
  near(m.saliency(w, Uint8Array.of(0, 1, 0), 2), [0, 1]);
  assert.equal(m.saliency(w, Uint8Array.of(0, 0, 0), 2), null);
});

test("the inputs stay as they were", () => {
  const cos = Float32Array.of(.1, .2), w = m.tokenWeights(cos, 2, .01), kept = [...w];
  m.saliency(w, [1], 2);
  assert.deepEqual([[...cos], [...w]], [[...Float32Array.of(.1, .2)], kept]);
});

test("votes follow the kinds, and single tokens override them", () => {
  const on = { s: true, t: false, w: true, e: false, p: false };
  assert.deepEqual([...m.votesOf("stwwep", on)], [1, 0, 1, 1, 0, 0]);
  assert.deepEqual([...m.votesOf("stwwep", on, { 1: true, 3: false })], [1, 1, 1, 0, 0, 0]);
  assert.deepEqual([...m.votesOf("stwwep", {}, { "5": true })], [0, 0, 0, 0, 0, 1]);
  assert.deepEqual([...m.votesOf("sw", on, undefined)], [1, 1]);
  assert.ok(m.votesOf("", on) instanceof Uint8Array);
});

test("ranking puts the best first, equals in order, NaN last", () => {
  assert.deepEqual(m.ranking([.1, .3, .2, .3]), [1, 3, 2, 0]);
  assert.deepEqual(m.ranking([NaN, -1, NaN, 5]), [3, 1, 0, 2]);
  assert.deepEqual(m.ranking(Float32Array.of(0, -0)), [0, 1]);
  assert.deepEqual(m.ranking([]), []);
});

test("padding is one row until it is unfolded", () => {
  assert.deepEqual(m.rowsOfTokens("swepp"), [{ kind: "s", tokens: [0] }, { kind: "w", tokens: [1] }, { kind: "e", tokens: [2] }, { kind: "p", tokens: [3, 4] }]);
  assert.deepEqual(m.rowsOfTokens("swepp", true).map(r => r.tokens), [[0], [1], [2], [3], [4]]);
  assert.deepEqual(m.rowsOfTokens("swe").map(r => r.tokens), [[0], [1], [2]]);
});


// Time

test("edges lie half-way, and the clip reaches to its outer frames", () => {
  near(m.frameEdges([1, 2, 4, 5], 0, 6), [0, 1.5, 3, 4.5, 6]);
  near(m.frameEdges([1, 2], 1.5, 1.8), [1, 1.5, 2]);
  near(m.frameEdges([3], 0, 6), [0, 6]);
});

test("every time has its frame", () => {
  const times = [1, 2, 4], edges = m.frameEdges(times, 0, 6);
  for (const [t, want] of [[-9, 0], [0, 0], [1.49, 0], [1.5, 1], [2.9, 1], [3, 2], [6, 2], [99, 2], [NaN, 0]]) {
    assert.equal(m.frameAt(edges, t), want, `frame at ${t}`);
    assert.equal(m.nearestFrame(times, t), want, `nearest to ${t}`);
  }
  assert.equal(m.frameAt(m.frameEdges([3], 0, 6), 5), 0);
  assert.equal(m.nearestFrame([3], 99), 0);
});

test("steps change the frame by one, and stop at the ends", () => {
  const times = [1, 2, 4];
  assert.deepEqual([0, 1, 1.6, 2, 4, 9].map(t => m.step(times, t, 1)), [1, 1, 2, 2, 2, 2]);
  assert.deepEqual([0, 1, 1.6, 2, 4, 9].map(t => m.step(times, t, -1)), [0, 0, 0, 0, 1, 1]);
  assert.deepEqual([m.step([3], 3, 1), m.step([3], 3, -1)], [0, 0]);
});

test("windows are runs above the middle; none where all is equal or not a number", () => {
  const edges = [0, 1.5, 3, 4.5, 6];
  assert.deepEqual(m.findWindows([.1, .3, .3, .1], edges), [[1.5, 4.5]]);
  assert.deepEqual(m.findWindows([.3, .1, .1, .3], edges), [[0, 1.5], [4.5, 6]]);
  assert.deepEqual(m.findWindows(Float32Array.of(0, .5, 1, .25), edges), [[1.5, 4.5]]);   // the middle itself is in
  assert.deepEqual(m.findWindows([0, .5, 1, .25], edges, .9), [[3, 4.5]]);
  for (const flat of [[.2, .2, .2, .2], [.1, NaN, .3, .1]]) assert.deepEqual(m.findWindows(flat, edges), []);
  assert.deepEqual(m.findWindows([.2], [0, 6]), []);
});

test("the strongest frame of each group is chosen", () => {
  assert.deepEqual(m.chooseFrames([[1, 2, 3, 4, 5]], 2), [2, 4]);
  assert.deepEqual(m.chooseFrames([[9, 1, 1, 1], [.1, .1, .1, .2]], 2), [0, 3]);   // each curve by its own maximum
  assert.deepEqual(m.chooseFrames([[1, 1, 1]], 9), [0, 1, 2]);
  assert.deepEqual(m.chooseFrames([[0, 0, 0, 0]], 2), [0, 2]);
  assert.deepEqual(m.chooseFrames([[7]], 3), [0]);
  assert.deepEqual(m.chooseFrames([[1, 3, 2]], 0), [1]);
  assert.deepEqual(m.chooseFrames([], 3), []);
});


// Words and numbers

test("numbers are rounded as Python rounds them, without a minus before zero", () => {
  for (const [x, digits, want] of [[.0625, 3, "0.062"], [.1875, 3, "0.188"], [1.0005, 3, "1.000"], [-.0004, 3, "0.000"], [-0, 3, "0.000"], [-.0625, 3, "-0.062"],
                                   [2.5, 0, "2"], [3.5, 0, "4"], [.5, 0, "0"], [-.5, 0, "0"], [1e9, 3, "1000000000.000"], [NaN, 3, "nan"], [-Infinity, 3, "-inf"]])
    assert.equal(m.number(x, digits), want, `${x} with ${digits}`);
});

test("times are written for the length of the clip", () => {
  for (const [t, length, want] of [[.25, 1, "0.25"], [.25, 2, "0.2"], [2.5, 120, "2.5"], [65, 121, "1:05"], [59.9, 121, "0:59"], [3599.9, 4000, "59:59"], [3600, 4000, "1:00:00"], [3725, 4000, "1:02:05"]])
    assert.equal(m.clock(t, length), want);
});

test("windows in words: seconds, long clips, frames, many, none", () => {
  const w = [[0, 1.5], [65, 70], [80, 90], [100, 110], [111, 112]];
  assert.equal(m.spellWindow(w[0], 6, "s", [1]), "0.0–1.5 s");
  assert.equal(m.spellWindow(w[1], 130, "s", [1]), "1:05–1:10");
  assert.equal(m.spellWindow([2.5, 5.5], 16, "frame", [2, 3, 4, 5, 6]), "frames 3–5");
  assert.equal(m.spellWindow([-.5, .5], 16, "frame", Float64Array.of(0, 1)), "frame 0");
  assert.equal(m.spellWindow([.2, .3], 16, "frame", [0, 1]), "no frame");
  assert.equal(m.spellWindows(w, 130, "s", []), "0:00–0:01, 1:05–1:10, 1:20–1:30 and 2 more");
  assert.equal(m.spellWindows(w.slice(0, 3), 100, "s", []), "0.0–1.5 s, 65.0–70.0 s, 80.0–90.0 s");
  assert.equal(m.spellWindows(w, 130, "s", [], 1), "0:00–0:01 and 4 more");
  assert.equal(m.spellWindows([], 6, "s", []), "equally in all frames");
});


// Geometry

test("cosines share one scale from 0 to 1, whose zero is a cosine of zero if there are lower ones", () => {
  const [a, b] = m.scaledCosine([[.1, .3], Float64Array.of(.2, .5)]);
  near(a, [0, .5]); near(b, [.25, 1]);
  near(m.scaledCosine([[-.5, .5, 1]])[0], [0, .5, 1]);
  near(m.scaledCosine([[-.3, -.1]])[0], [0, 1]);
  near(m.scaledCosine([[.2, .2]])[0], [0, 0]);
  assert.ok(m.scaledCosine([[.1, NaN]])[0].every(Number.isNaN));
  assert.deepEqual(m.scaledCosine([]), []);
  near(m.scaledCosine([[0, .1]], .4)[0], [0, .25]);                      // the best of the clip is elsewhere
  near(m.scaledCosine([[.1, .3]], .2)[0], [0, 1]);
  near(m.scaledCosine([[-.3, -.1]], .4)[0], [0, 0]);
  near(m.scaledCosine([[-.3, -.1]], -.2)[0], [0, 1]);                    // never turned round, never divided by nothing
  near(m.scaledCosine([[-.3, -.3]], -.3)[0], [0, 0]);
});

test("a linear scale goes there and back, and back never beyond its ends", () => {
  const x = m.linear(2, 6, 100, 300), y = m.linear(0, 1, 80, 0);
  near([x.to(2), x.to(4), x.to(6), y.to(.25)], [100, 200, 300, 60]);
  near([x.from(200), x.from(0), x.from(999), y.from(60), y.from(-9)], [4, 2, 6, .25, 1]);
  near([m.linear(3, 3, 0, 10).to(3), m.linear(3, 3, 0, 10).from(7), m.linear(2, 6, 5, 5).from(5)], [0, 3, 2]);
});

test("the temperature's scale steps by equal ratios and hits its ends", () => {
  const s = m.logScale(.005, 1, 200);
  assert.deepEqual([s.value(0), s.value(200), s.index(.005), s.index(1), s.index(0), s.index(9)], [.005, 1, 0, 200, 0, 200]);
  for (let i = 0; i <= 200; i++) assert.equal(s.index(s.value(i)), i);
  assert.ok(Math.abs(s.value(s.index(.01)) / .01 - 1) < .015);
});

test("ticks are round, inside, even, and few enough", () => {
  assert.deepEqual(m.niceTicks(0, 6, 10), [0, 1, 2, 3, 4, 5, 6]);
  assert.deepEqual(m.niceTicks(0, .3, 7), [0, .05, .1, .15, .2, .25, .3]);
  assert.deepEqual(m.niceTicks(-.5, 15.5, 8, true), [0, 2, 4, 6, 8, 10, 12, 14]);
  assert.deepEqual(m.niceTicks(0, 2, 10, true), [0, 1, 2]);
  assert.deepEqual([m.niceTicks(3, 3, 5), m.niceTicks(3, 1, 5), m.niceTicks(0, NaN, 5), m.niceTicks(0, Infinity, 5)], [[3], [], [], []]);
  for (const [a, b] of [[0, 1], [.013, .0131], [-7, 3], [12.5, 4000], [1e6, 1e6 + 1], [.19, 5.81]]) for (const most of [1, 2, 3, 5, 8, 10]) for (const whole of [false, true]) {
    const ticks = m.niceTicks(a, b, most, whole), gaps = ticks.slice(1).map((t, i) => t - ticks[i]);
    assert.ok(ticks.length <= most && ticks.every(t => t >= a - 1e-6 && t <= b + 1e-6), `${a} ${b} ${most}: ${ticks}`);
    assert.ok(whole || most < 4 || ticks.length * 2.6 >= most, `too few: ${a} ${b} ${most}: ${ticks}`);
    for (const g of gaps) {
      const mantissa = Number((g / 10 ** Math.floor(Math.log10(g) + 1e-6)).toFixed(4));
      assert.ok([1, 2, 2.5, 5].includes(mantissa), `${ticks}`);
    }
    if (whole) assert.ok(ticks.every(Number.isInteger));
  }
});

test("a path has two decimals, and NaN breaks it", () => {
  assert.equal(m.polyline([0, 1.23456, 2, 3, 4], [1, 2, NaN, 4, 5.5]), "M0,1L1.23,2M3,4L4,5.5");
  assert.equal(m.polyline([0], [1]), "M0,1");
  assert.equal(m.polyline([NaN, 1], [0, Infinity]), "");
  assert.equal(m.polyline([], []), "");
});

test("things spread out stand side by side, in order, within their bounds", () => {
  near(m.spread([1, 5, 9], 1, 0, 10), [1, 5, 9]);
  near(m.spread([5, 5, 5], 1, 0, 10), [4, 5, 6]);
  near(m.spread([0, 0], 1, 0, 10), [.5, 1.5]);
  near(m.spread([5, 5, 5], 10, 0, 3), [.5, 1.5, 2.5]);   // too large: all the room there is
  assert.deepEqual(m.spread([], 1, 0, 10), []);
});


// Colour

const linear = v => (v /= 255) > .04045 ? ((v + .055) / 1.055) ** 2.4 : v / 12.92;
const times = (rows, v) => rows.map(r => r.reduce((sum, x, i) => sum + x * v[i], 0));
const lab = rgb => times([[.2104542553, .793617785, -.0040720468], [1.9779984951, -2.428592205, .4505937099], [.0259040371, .7827717662, -.808675766]],
  times([[.4122214708, .5363325363, .0514459929], [.2119034982, .6806995451, .1073969566], [.0883024619, .2817188376, .6299787005]], rgb).map(Math.cbrt));
const EYES = {   // full strength, Machado et al. 2009, on linear RGB
  all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[.152286, 1.052583, -.204868], [.114503, .786281, .099216], [-.003882, -.048116, 1.051998]],
  deuteranopia: [[.367322, .860646, -.227968], [.280085, .672501, .047413], [-.011820, .042940, .968881]],
  tritanopia: [[1.255528, -.076749, -.178779], [-.078411, .930809, .147602], [.004733, .691367, .303900]],
};

for (const dark of [false, true]) for (const [eyes, matrix] of Object.entries(EYES))
  test(`the ${dark ? "dark" : "light"} ramp rises evenly for the eyes of ${eyes}`, () => {
    const seen = Array.from({ length: 17 }, (_, i) => lab(times(matrix, m.heat(i / 16, dark).map(linear)).map(v => Math.max(v, 0))));
    const gaps = seen.slice(1).map((c, i) => Math.hypot(...c.map((v, k) => v - seen[i][k]))), mean = gaps.reduce((a, b) => a + b) / 16;
    seen.slice(1).forEach((c, i) => assert.ok(dark ? c[0] > seen[i][0] : c[0] < seen[i][0], `lightness turns at ${i}`));
    assert.ok(Math.min(...gaps) > .6 * mean && Math.max(...gaps) < 1.4 * mean, gaps.join(" "));
  });

test("the ramp starts at the paper and takes any number", () => {
  assert.deepEqual([m.heat(0), m.heat(0, true)], [[255, 255, 255], [17, 17, 17]]);
  for (const dark of [false, true]) {
    assert.deepEqual([m.heat(-1, dark), m.heat(NaN, dark), m.heat(9, dark)], [m.heat(0, dark), m.heat(0, dark), m.heat(1, dark)]);
    for (let i = 0; i <= 100; i++) assert.ok(m.heat(i / 100, dark).every(c => Number.isInteger(c) && c >= 0 && c <= 255));
  }
});


// Size

test("5 concepts of 77 tokens and 64 frames take a small part of a screen's 16 ms", () => {
  const cos = Float32Array.from({ length: 5 * 77 * 64 }, (_, i) => Math.sin(i * 12.9898) * .3), votes = new Uint8Array(385).fill(1), spent = [];
  for (let i = 0; i < 21; i++) {
    const start = performance.now();
    m.saliency(m.tokenWeights(cos, 64, .01), votes, 64);
    spent.push(performance.now() - start);
  }
  assert.ok(spent.sort((a, b) => a - b)[10] < 8, `${spent[10]} ms`);
});

test("a clip of many frames is no trouble", () => {
  const T = 200_000, times = Float64Array.from({ length: T }, (_, i) => i / 10), cosine = Float32Array.from(times, t => Math.sin(t));
  const edges = m.frameEdges(times, 0, T / 10);
  assert.equal(m.findWindows(cosine, edges).length, Math.ceil(T / 10 / (2 * Math.PI)));   // the last begun
  assert.equal(m.nearestFrame(times, 1234.56), 12346);
  assert.equal(m.chooseFrames([cosine], 50).length, 50);
  assert.equal(m.scaledCosine([cosine])[0].length, T);
  near([m.tokenWeights(cosine, T, .01).reduce((a, b) => a + b)], [1], 1e-9);
});
