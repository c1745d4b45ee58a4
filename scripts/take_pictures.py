"""Take the picture of the viewer that README shows, nbs/images/viewer.png, in a Chromium without a window.

    python scripts/take_pictures.py        # or: make pictures
"""
import io, json, shutil, sys, tempfile
from pathlib import Path

from PIL import Image

from bike_nb.explain import explain, few_colours

ROOT = Path(__file__).resolve().parents[1]
CLIP, CONCEPTS = ROOT/"data_samples"/"00_flying_a_kite.mp4", ["flying a kite", "yellow flag", "a person", "white star"]


def truth():
    "When the words of the concepts show, as data_samples/ says."
    words = json.loads((ROOT/"data_samples"/"annotations.json").read_text())["clips"][0]["words"]
    return {c: words[c.removeprefix("a ")] for c in CONCEPTS}


def photograph(page, at, width=1240):
    "The page as it stands after `at` seconds of the clip, as a PNG file."
    from playwright.sync_api import sync_playwright
    browser = next((b for n in ("chromium", "chromium-browser", "google-chrome") if (b := shutil.which(n))), None)
    with sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        tab = chromium.new_page(viewport=dict(width=width, height=800), color_scheme="light", device_scale_factor=1.5)
        tab.goto(page.as_uri())
        tab.get_by_role("slider", name="Time").focus()
        while tab.evaluate("document.querySelector('.bike-viewer').bikeViewer.values().time") < at: tab.keyboard.press("ArrowRight")
        tab.evaluate("document.activeElement.blur()")
        tab.wait_for_timeout(500)
        return tab.screenshot(full_page=True)


def main():
    out = ROOT/"nbs"/"images"/"viewer.png"
    out.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = explain(CLIP, CONCEPTS).to_html(Path(folder)/"page.html", truth=truth(), theme="light")
        few_colours(Image.open(io.BytesIO(photograph(page, 3))).convert("RGB")).save(out, optimize=True)
    print(f"wrote {out.relative_to(ROOT)}, {out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__": sys.exit(main())
