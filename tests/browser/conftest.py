"""A browser, and a JupyterLab with real kernels, for the tests in this folder; they share one of each.

`page(...)` opens a tab and fails the test for whatever the page complains about; `lab` writes, opens and runs notebooks:

    def test_it(page, lab):
        nb = lab.open(page(), lab.write("one.ipynb", "1 + 1"))       # app="notebooks": in Notebook 7
        nb.run_all(); nb.save(); nb.shutdown()                       # nb.tab is Playwright's page

Without a Chromium, or without Playwright, all are skipped; with BIKE_NB_REQUIRE_BROWSER=1 they fail instead.
BIKE_NB_CHROMIUM names the browser to use.
"""
import json, os, re, shutil, socket, subprocess, sys, time, urllib.error, urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
LOCAL = "file:", "data:", "blob:", "about:"
NOISE = [r"^Cannot read properties of undefined \(reading 'schema'\)", r"^Command 'filebrowser:open-path' not registered",  # what Notebook 7 says by itself
         r"^Could not restore the debugger state: "]                   # Jupyter's debugger asks each new kernel for its state; a test may end the kernel before it answers
missing = set()


# ---------------------------------------------------------------- the browser
def cannot(why):
    "Skip, or fail where a browser is required."
    missing.add(why)
    (pytest.fail if os.environ.get("BIKE_NB_REQUIRE_BROWSER") == "1" else pytest.skip)(f"no browser tests: {why}")


def pytest_terminal_summary(terminalreporter):
    for why in missing: terminalreporter.write_line(f"no browser tests: {why}")


@pytest.fixture(scope="package")                                      # not longer: Playwright keeps asyncio's loop running
def chromium():
    "A headless Chromium."
    try: from playwright.sync_api import Error, sync_playwright
    except ImportError: cannot("the package playwright is not installed")
    asked = os.environ.get("BIKE_NB_CHROMIUM")
    found = asked or next((b for n in ("chromium", "chromium-browser", "google-chrome") if (b := shutil.which(n))), None)
    with sync_playwright() as p:
        try: browser = p.chromium.launch(executable_path=found, args=ARGS)
        except Error as error:
            if found: pytest.fail(f"{found} does not start: {error}")
            cannot("there is no chromium, chromium-browser or google-chrome (apt install chromium; playwright install chromium; or BIKE_NB_CHROMIUM=path)")
        yield browser
        browser.close()


class Tabs:
    "Opens tabs; remembers their requests (`asked`) and complaints (`said`)."
    def __init__(self, browser): self.browser, self.asked, self.said, self.contexts = browser, [], [], []

    def __call__(self, width=1280, height=900, offline=False, dark=False, still=False, **context):
        "A tab; `offline` lets nothing through but what is in the page, `still` asks for reduced motion."
        context = self.browser.new_context(viewport=dict(width=width, height=height), color_scheme="dark" if dark else "light",
                                           reduced_motion="reduce" if still else "no-preference", **context)
        self.contexts.append(context)
        context.set_default_timeout(30_000)
        context.on("request", lambda r: self.asked.append(r.url))
        if offline:
            context.route(lambda url: not url.startswith(LOCAL), lambda route: route.abort())
            context.set_offline(True)
        tab = context.new_page()
        tab.on("console", lambda m: m.type == "error" and self.said.append(f"{m.text} ({m.location.get('url', '')[:200]})"))
        tab.on("pageerror", lambda e: self.said.append(f"{e} ({(e.stack or '')[-400:]})"))
        tab.on("crash", lambda _: self.said.append("the tab crashed"))
        return tab

    @property
    def abroad(self): return [u for u in self.asked if not u.startswith(LOCAL)]

    def complaints(self): return [s for s in self.said if not any(re.search(n, s) for n in NOISE)]

    def close(self):
        while self.contexts: self.contexts.pop().close()


@pytest.fixture
def page(chromium):
    "A function that opens tabs (see `Tabs`); what they log as an error fails the test."
    tabs = Tabs(chromium)
    yield tabs
    tabs.close()
    assert not tabs.complaints(), tabs.complaints()


def axe(tab, context=None):
    "Serious and critical findings of axe-core."
    from axe_playwright_python.sync_playwright import Axe
    found = Axe().run(tab, context=context).response["violations"]
    return [(v["id"], v["impact"], [n["html"][:160] + " " + n["failureSummary"][:300] for n in v["nodes"][:4]]) for v in found if v["impact"] in ("serious", "critical")]


# ---------------------------------------------------------------- JupyterLab
class Lab:
    "A running JupyterLab: `root` is its folder, `url` its address."
    def __init__(self, folder):
        self.root, self.token = folder/"root", "secret"
        self.root.mkdir()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{(port := s.getsockname()[1])}"
        places = {f"JUPYTER_{x.upper()}_DIR": str(folder/x) for x in ("config", "data", "runtime")}
        places |= {"IPYTHONDIR": str(folder/"ipython"), "JUPYTERLAB_SETTINGS_DIR": str(folder/"settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder/"workspaces")}
        news = folder/"settings"/"@jupyterlab"/"apputils-extension"/"notification.jupyterlab-settings"
        news.parent.mkdir(parents=True)
        news.write_text(json.dumps(dict(checkForUpdates=False, fetchNews="false", doNotDisturbMode=True)))
        flags = dict(ServerApp=dict(ip="127.0.0.1", port=port, port_retries=0, root_dir=self.root, open_browser=False), IdentityProvider=dict(token=self.token),
                     LabApp=dict(expose_app_in_browser=True, extension_manager="readonly", check_for_updates_class="jupyterlab.NeverCheckForUpdate"),
                     JupyterNotebookApp=dict(expose_app_in_browser=True), FileContentsManager=dict(delete_to_trash=False))
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", *["--allow-root"] * (hasattr(os, "geteuid") and os.geteuid() == 0),
                   *(f"--{c}.{k}={v}" for c, x in flags.items() for k, v in x.items())]
        self.log = open(folder/"log", "w+")
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
        self.server = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=self.root,
                                       env={**os.environ, **places, "OMP_NUM_THREADS": "1", "PYTHONPATH": path})
        self.wait()

    def api(self, path, method="GET"):
        request = urllib.request.Request(f"{self.url}/api/{path}", method=method, headers={"Authorization": f"token {self.token}"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as r: return json.loads(r.read() or "null")

    def wait(self, seconds=60):
        for _ in range(seconds * 5):
            try: return self.api("status")
            except (OSError, urllib.error.URLError): time.sleep(.2)
            if self.server.poll() is not None: break
        self.log.seek(0)
        self.server.kill()
        raise RuntimeError(f"JupyterLab does not start:\n{self.log.read()[-3000:]}")

    def stop(self):
        try:
            self.shutdown()
            self.server.terminate()
            self.server.wait(15)
        except (OSError, subprocess.TimeoutExpired): self.server.kill()
        self.log.close()

    def shutdown(self):
        "End all kernels, and with them their sessions."
        for what in "sessions", "kernels":
            for x in self.api(what):
                try: self.api(f"{what}/{x['id']}", "DELETE")
                except urllib.error.HTTPError as error:
                    if error.code != 404: raise                       # it has ended meanwhile

    def write(self, name, *cells):
        "A notebook of these cells: code, or Markdown where a text begins with #."
        import nbformat
        v4 = nbformat.v4
        nb = v4.new_notebook(cells=[(v4.new_markdown_cell if c.startswith("# ") else v4.new_code_cell)(c) for c in cells],
                             metadata=dict(kernelspec=dict(name="python3", display_name="Python 3", language="python"), language_info=dict(name="python")))
        nbformat.write(nb, self.root/name)
        return name

    def open(self, tab, name, app="lab"): # "lab", or "notebooks" for Notebook 7
        "An open notebook."
        tab.goto(f"{self.url}/{'lab/tree' if app == 'lab' else app}/{name}?token={self.token}{'&reset' if app == 'lab' else ''}")
        return Notebook(self, tab, name)


class Notebook:
    "A notebook in a tab of JupyterLab or Notebook 7."
    PANEL = "const app = window.jupyterapp, panel = app.shell.currentWidget; "
    def __init__(self, lab, tab, name):
        self.lab, self.tab, self.name = lab, tab, name
        tab.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context?.isReady", timeout=60_000)
        tab.locator(".jp-Notebook .jp-Cell").first.wait_for()
        self.js("await panel.context.ready")

    def js(self, code, seconds=55):
        "What a piece of JavaScript returns, that knows the application as `app` and the notebook as `panel`."
        return self.tab.evaluate(f"""() => Promise.race([(async () => {{ {self.PANEL} {code} }})(),
          new Promise((_, no) => setTimeout(no, {seconds * 1000}, new Error("JupyterLab does not answer within {seconds} s")))])""")

    def command(self, name, **args):
        "One of the application's commands, such as docmanager:save."
        return self.js(f"await app.commands.execute({json.dumps(name)}, {json.dumps(args)})")

    def run_all(self):
        "Run all cells to the end."
        self.js("await panel.sessionContext.ready; await panel.sessionContext.session.kernel.info")
        self.command("notebook:run-all-cells")

    def save(self): self.command("docmanager:save")

    def ask(self, code):
        "What the kernel prints when it runs this, as JSON."
        done = self.js(f"""let out = ''; const f = panel.sessionContext.session.kernel.requestExecute({{ code: {json.dumps(code)}, store_history: false }});
          f.onIOPub = m => {{ out += m.content.text ?? (m.content.traceback || []).join('\\n') }}; await f.done; return out""")
        try: return json.loads(done)
        except ValueError: pytest.fail(f"the kernel says: {done}")

    def shutdown(self):
        "End the kernel."
        self.js("await panel.sessionContext.shutdown()")

    @property
    def cells(self): return self.tab.locator(".jp-Notebook .jp-Cell")


@pytest.fixture(scope="package")
def jupyter(chromium, tmp_path_factory):
    "A JupyterLab, started once."
    for module in ("jupyterlab", "notebook"):
        if find_spec(module) is None: cannot(f"the package {module} is not installed")
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.stop()


@pytest.fixture
def lab(jupyter, page):
    "The JupyterLab, whose kernels end with the test."
    yield jupyter
    page.close()
    jupyter.shutdown()
