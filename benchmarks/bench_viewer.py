"""How fast does the viewer follow the hand, how fast does it open, and how large is a page? In a headless Chromium.

    python benchmarks/bench_viewer.py                          # 5 concepts × 77 tokens × 64 frames
    python benchmarks/bench_viewer.py --frames 256 --width 1600

Redrawn: from the slider's `input` event until curves, scores and token map are changed and laid out. Painted: until the task
after the next animation frame, so it holds the wait for the screen, up to 16.7 ms at 60 Hz. Opened: from `render` with the data
there until curves, map and all pictures stand and a frame has passed. The browser is the first of BIKE_NB_CHROMIUM, chromium,
chromium-browser and google-chrome that is there, else Playwright's own.
"""
import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

KITE = Path(__file__).resolve().parents[1]/"data_samples"/"00_flying_a_kite.mp4"
NAMES = ["flying a kite", "yellow flag", "a person", "white star", "a tree", "a house", "a dog", "rain", "a ball", "a boat"]
ARGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

# a model as anywidget gives it, without a kernel
RENDER = """async ([script, data, media]) => {
  document.body.replaceChildren();
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" })), { default: { render } } = await import(url);
  const state = { data, media, view: {}, request: {}, reply: {}, fallback: "" };
  const model = { get: k => state[k], set: (k, v) => { state[k] = v }, save_changes() {}, on() {}, off() {} };
  const el = document.body.appendChild(document.createElement("div")), frame = () => new Promise(requestAnimationFrame);
  await frame(); await frame();
  const start = performance.now();
  await render({ model, el });
  const drawn = () => el.querySelectorAll("path.curve[d]").length >= Math.min(data.panels[0].concepts.length, 8);
  while (!drawn()) await frame();
  await Promise.all([...el.querySelectorAll("img[src]")].map(i => i.decode()));
  await frame(); await new Promise(r => setTimeout(r, 0));
  return performance.now() - start;
}"""
SLIDE = """async (repeats) => {
  const slider = document.querySelector('input[type=range][aria-label="Temperature"]'), root = document.querySelector(".bike-viewer");
  const top = Number(slider.max), frame = () => new Promise(requestAnimationFrame), out = [];
  for (let i = 0, was = ""; i < repeats + 5; i++) {
    await frame(); await frame(); await new Promise(r => setTimeout(r, 16 * Math.random()));
    slider.value = String(Math.round(top * (.05 + .9 * ((i * .381966) % 1))));
    const start = performance.now();
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    root.getBoundingClientRect(); const now = document.querySelector("path.curve").getAttribute("d");
    const redrawn = performance.now() - start;
    if (now === was) throw new Error("the curve did not change");
    was = now;
    await frame(); await new Promise(r => { const c = new MessageChannel(); c.port1.onmessage = r; c.port2.postMessage(0) });
    if (i >= 5) out.push([redrawn, performance.now() - start]);
  }
  return out;
}"""


def random_explanation(args):
    "What `explain` would have found, had the embeddings been random; the frames of a clip resemble each other."
    import numpy as np
    import torch
    from bike_nb.encoder import TextEmbeddings
    from bike_nb.explain import Explanation, spot
    torch.manual_seed(0)
    C, L, T, D = args.concepts, args.tokens, args.frames, 512
    place = torch.arange(L).expand(C, L)
    text = TextEmbeddings(classes=torch.randn(C, D), tokens=torch.randn(C, L, D), mask=place < 9, words=(place > 4) & (place < 8), texts=["a photo of a word and more"] * C, ids=place)
    settings = dict(num_frames=T, fps=None, start=0., end=8., unit="s", template="a photo of {}", temperature=.01, mask="all", lexicon="none", lexicon_template="{}", k=5, pool="max", temporal=False, pretrained=None, precision="fp32")
    pieces = ["<s>", "a", "photo", "of", "a", "word", "and", "more", "</s>"]
    return Explanation("random.mp4", "random", settings, (np.arange(T) + .5) * 8 / T, [f"concept {i}" for i in range(C)], attributes=[(f"attribute {i}", .3 - i / 100) for i in range(5)],
                       frames=np.random.default_rng(0).integers(0, 255, (T, 24, 32, 3), np.uint8).repeat(6, 1).repeat(6, 2), pieces=[pieces + [""] * (L - len(pieces))] * C,
                       **spot(torch.randn(T, D) + torch.randn(D), text, .01, "all"))


def milliseconds(x): return f"{statistics.median(x):8.1f} ms{sorted(x)[int(.95 * (len(x) - 1) + .5)]:8.1f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, value in dict(concepts=5, tokens=77, frames=64, width=1280, repeats=100, turns=9).items(): parser.add_argument(f"--{key}", type=int, default=value)
    args = parser.parse_args()
    try: from playwright.sync_api import Error, sync_playwright
    except ImportError: return print("not measured: the package playwright is not installed")
    from bike_nb import widgets
    from bike_nb.explain import explain
    e, film = random_explanation(args), explain(KITE, NAMES[:args.concepts], num_frames=args.frames)
    browser = os.environ.get("BIKE_NB_CHROMIUM") or next((b for n in ("chromium", "chromium-browser", "google-chrome") if (b := shutil.which(n))), None)
    with sync_playwright() as p:
        try: chromium = p.chromium.launch(executable_path=browser, args=ARGS)
        except Error: return print("not measured: there is no Chromium (apt install chromium; or BIKE_NB_CHROMIUM=path)")
        tab = chromium.new_page(viewport=dict(width=args.width, height=1000))
        tab.goto("about:blank")
        tab.add_style_tag(content=widgets.static("viewer.css"))
        opened = {}
        for name, x in (("random numbers", e), ("clip of 6 s", film)):
            payload = [widgets.script(), widgets.as_data([x]), [widgets.media(x)]]
            opened[name] = [tab.evaluate(RENDER, payload) for _ in range(args.turns + 1)][1:]
            if x is e:
                tab.evaluate(RENDER, payload)
                redrawn, painted = zip(*tab.evaluate(SLIDE, args.repeats))
        version = chromium.version
    with tempfile.TemporaryDirectory() as folder:
        page = explain(KITE, NAMES[:args.concepts], num_frames=32).to_html(Path(folder)/"page.html").stat().st_size
    print(f"\n{args.concepts} concepts × {args.tokens} tokens × {args.frames} frames, {args.width} pixels wide; Chromium {version} without a GPU"
          + (f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""))
    print(f"{'':42}{'median':>11}{'95 of 100':>11}")
    for name, x in (("temperature moved, redrawn and laid out", redrawn), ("  and painted", painted), *((f"opened, {k}", v) for k, v in opened.items())): print(f"{name:42}{milliseconds(x)}")
    print(f"{'a page of 32 frames at 320 px, clip of 6 s':42}{page / 1e6:8.2f} MB")


if __name__ == "__main__": main()
