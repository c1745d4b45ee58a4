// bike_nb/static/maths.js for tests. `node tests/js/run.mjs calls.json` answers calls, [[name, arguments], …], with a list of results.
import { readFileSync } from "node:fs";

// A data address, because node takes a file that ends in .js for a module only where a package.json says so.
const text = readFileSync(new URL("../../bike_nb/static/maths.js", import.meta.url), "utf8");
export const maths = await import("data:text/javascript;base64," + Buffer.from(text).toString("base64"));

// All that the viewer shows of a panel's concepts, from the same data and by the same steps.
function look({ concepts, mean }, temperature, on, overrides) {
  const means = maths.decodeF32(mean), T = means.length;
  const found = concepts.map(({ cosine, tokens, kinds }) => {
    const c = maths.decodeF32(cosine), weights = maths.tokenWeights(maths.decodeF32(tokens), T, temperature);
    const saliency = maths.saliency(weights, maths.votesOf(kinds, on, overrides), T);
    return { saliency, score: saliency && maths.dot(saliency, c), mean: maths.dot(means, c) };
  });
  return { found, order: maths.ranking(found.map(f => f.score)) };
}

// Arrays come as they are, or as {f32: […]} and {f64: […]}; null in them is NaN.
const filled = x => x.map(v => v ?? NaN);
const revive = (_, v) => v?.f32 ? Float32Array.from(filled(v.f32)) : v?.f64 ? Float64Array.from(filled(v.f64)) : v;
const plain = (_, v) => ArrayBuffer.isView(v) ? Array.from(v) : v;

if (process.argv[2]) {
  const calls = JSON.parse(readFileSync(process.argv[2], "utf8"), revive);
  process.stdout.write(JSON.stringify(calls.map(([name, given]) => ({ ...maths, look })[name](...given)), plain));
}
