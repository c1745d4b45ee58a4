"What is shipped: the wheel's content, that it works where only it is, what an import costs, and what no file may hold."
import ast, json, os, re, shutil, subprocess, sys, tarfile, zipfile
from configparser import ConfigParser
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DATA = "models", "lexicons", "labels", "static"
NO_NETWORK = {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", **{k: "http://127.0.0.1:9" for k in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}}


def settings():
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT/"settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def requirements(key="requirements"): return [Requirement(r) for r in settings()[key].splitlines() if r.strip()]


def call(*args, env={}, **kwargs):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, env={**os.environ, **NO_NETWORK, **env}, **kwargs)
    assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


# ---------------------------------------------------------------- the wheel
@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "The folder with a source distribution of a copy of this tree, and the wheel made from that."
    source = tmp_path_factory.mktemp("source")
    for name in ("settings.ini", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt"): shutil.copy(ROOT/name, source)
    shutil.copytree(ROOT/"bike_nb", source/"bike_nb")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", source/"dist", cwd=source)
    return source/"dist"


@pytest.fixture(scope="module")
def wheel(built): return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    "A folder elsewhere that has the wheel's content and nothing else; the dependencies are those of this environment."
    site = tmp_path_factory.mktemp("site of someone else")
    call(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check", "--target", site, wheel)
    return site


def test_wheel_holds_every_module_and_data_file_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as z: content = {n: z.read(n) for n in z.namelist() if ".dist-info/" not in n}
    files = [*(ROOT/"bike_nb").rglob("*.py"), *(f for d in DATA for f in (ROOT/"bike_nb"/d).rglob("*"))]
    files = {f.relative_to(ROOT).as_posix(): f.read_bytes() for f in files if f.is_file() and f.suffix != ".pyc"}
    assert content.keys() == files.keys()
    assert content == files
    for name in ("models/tiny/model.safetensors", "models/tiny/open_clip_config.json", "lexicons/world.txt"): assert f"bike_nb/{name}" in content
    assert any(n.startswith("bike_nb/static/") for n in content)
    assert len(content["bike_nb/models/tiny/model.safetensors"]) <= 8_000_000


def test_wheel_says_what_settings_say(wheel):
    with zipfile.ZipFile(wheel) as z:
        meta, = [message_from_bytes(z.read(n)) for n in z.namelist() if n.endswith(".dist-info/METADATA")]
        scripts, = [z.read(n).decode() for n in z.namelist() if n.endswith(".dist-info/entry_points.txt")]
        assert any(n.endswith("LICENSE") for n in z.namelist())
        assert re.search(r"^Tag: py3-none-any$", z.read(next(n for n in z.namelist() if n.endswith("/WHEEL"))).decode(), re.M)
    cfg = settings()
    assert (meta["Name"], meta["Version"], meta["Requires-Python"]) == (cfg["lib_name"], cfg["version"], ">=" + cfg["min_python"])
    said = [Requirement(r) for r in meta.get_all("Requires-Dist")]
    plain = [r for r in said if not (r.marker and "extra" in str(r.marker))]
    assert sorted(map(str, plain)) == sorted(map(str, requirements()))
    assert len(said) - len(plain) == len(requirements("dev_requirements"))
    assert "bike_nb = bike_nb.cli:main" in scripts.replace("=", " = ").replace("  ", " ")
    assert "<!--" in meta.get_payload() or "# bike_nb" in meta.get_payload()


def test_source_distribution_can_be_built_from(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as t: names = {n.split("/", 1)[-1] for n in t.getnames()}
    assert {"settings.ini", "setup.py", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "bike_nb/lexicons/world.txt"} <= names
    assert not any(n.startswith(("nbs/", "tests/", ".venv/")) for n in names)


RUN = """
import json, runpy, sys
status = 0
try: runpy.run_module('bike_nb', run_name='__main__', alter_sys=True)
except SystemExit as e: status = e.code or 0
if status: sys.exit(status)
ours = sorted({m.__file__ for n, m in list(sys.modules.items()) if n.split('.')[0] == 'bike_nb' and getattr(m, '__file__', None)})
print('\\n' + json.dumps({'ours': ours, 'modules': sorted(sys.modules)}))
"""


def bike_nb(*args, site=None, cwd=None, **env):
    "Run the command line in a process of its own; what it printed, and what it had imported when it was done."
    run = [sys.executable, "-c", "import sys\nsys.argv = ['bike_nb'] + sys.argv[1:]" + RUN, *args]
    *out, last = call(*run, cwd=cwd, env={**env, **({"PYTHONPATH": str(site)} if site else {})}).splitlines()
    said = json.loads(last)
    return "\n".join(out), said["ours"], set(said["modules"])


def test_installed_elsewhere_it_explains_a_clip(installed, tmp_path):
    home = {"HOME": str(tmp_path/"home"), "XDG_CACHE_HOME": str(tmp_path/"home"/"cache"), "MPLCONFIGDIR": str(tmp_path/"home"/"mpl")}
    work = tmp_path/"my clips"
    work.mkdir()
    call(sys.executable, installed/"bin"/"bike_nb", "world", "clips", "--clips", "1", "--seed", "5", "--size", "120", "--duration", "3", cwd=work, env={**home, "PYTHONPATH": str(installed)})
    clip, = (work/"clips").glob("*.mp4")
    out, ours, _ = bike_nb("explain", clip.relative_to(work), "--out", "found", site=installed, cwd=work, **home)
    assert ours and all(f.startswith(str(installed)) for f in ours), ours
    written = [work/line.removeprefix("wrote ") for line in out.splitlines() if line.startswith("wrote ")]
    assert {p.suffix for p in written} >= {".png", ".json"} and all(p.stat().st_size > 0 for p in written)
    found = json.loads(next(p for p in written if p.suffix == ".json").read_text())
    assert len(found["times"]) == 16 and len(found["attributes"]) == 5 and len(found["saliency"]) == len(found["concepts"]) > 0
    assert all(a["name"] in out for a in found["attributes"])


# ---------------------------------------------------------------- imports
HEAVY = {"torch", "torchvision", "open_clip", "matplotlib", "seaborn", "decord", "av", "ipywidgets", "IPython", "huggingface_hub", "pandas", "scipy"}


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["explain", "--help"], ["world", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(args):
    out, _, modules = bike_nb(*args)
    assert out.strip() and not HEAVY & modules


@pytest.mark.parametrize("module, may", [("bike_nb", set()), ("bike_nb.cli", {"typer"}), ("bike_nb.world", {"numpy", "PIL"}), ("bike_nb.video", {"numpy", "PIL", "av"})])
def test_import_is_light(module, may):
    modules = set(call(sys.executable, "-c", f"import sys, {module}; print(*sys.modules)").split())
    assert module in modules and not ((HEAVY | {"numpy", "PIL", "typer"}) - may) & modules


COMES_WITH = {"PIL": "pillow", "open_clip": "open_clip_torch", "yaml": "PyYAML"}  # where the names differ


def test_modules_import_only_what_settings_require():
    wanted = {canonicalize_name(r.name) for r in requirements()}
    for path in sorted((ROOT/"bike_nb").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        optional = {n for t in ast.walk(tree) if isinstance(t, ast.Try) and "ImportError" in map(ast.unparse, (h.type for h in t.handlers if h.type))
                    for b in t.body for n in ast.walk(b)}
        for node in (n for n in ast.walk(tree) if n not in optional):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - {"bike_nb"}:
                assert canonicalize_name(COMES_WITH.get(name, name)) in wanted, f"{path.name} imports {name}, which settings.ini does not require"


# ---------------------------------------------------------------- what no tracked file may hold
MACHINE = re.compile(rb"(?<![\w.~})\]/])/(?:" + b"|".join([b"work", b"farm", b"root", b"opt", b"Users", rb"home/(?!you\b|me\b|user\b)\w+"]) + rb")/")
HOST = re.compile(b"|".join([b"py" + rb"pi\.org", b"pythonhosted" + rb"\.", b"registry" + rb"\.npmjs", b"download" + rb"\.pytorch\.org/whl",
                             b"--(?:extra-)?" + b"index-url", b"find" + b"-links"]))


def tracked():
    if not (ROOT/".git").exists() or not shutil.which("git"): return []
    return [ROOT/f for f in subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0") if f]


@pytest.mark.skipif(not tracked(), reason="not a git checkout")
def test_no_tracked_file_names_a_registry_or_a_path_of_one_machine():
    wrong = []
    for path in tracked():
        if not path.is_file(): continue
        content = path.read_bytes()
        if b"\0" in content[:8000]: continue
        for what, pattern in (("a path of one machine", MACHINE), ("a package registry", HOST)):
            wrong += [f"{path.relative_to(ROOT)}: {what}: …{content[max(0, m.start() - 30):m.end() + 30]!r}" for m in pattern.finditer(content)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("line, hit", [
    (b"see /ro" + b"ot/x", MACHINE), (b'"/wo' + b'rk/main"', MACHINE), (b"/Us" + b"ers/ann/x", MACHINE), (b"--extra-" + b"index-url x", HOST), (b"https://py" + b"pi.org/simple", HOST),
    (b"/home/you/clip.mp4", None), (b"../work/x https://a.b/work/c", None), (b"uv --no-emit-index-" + b"url", None)])
def test_the_patterns_find_what_they_should(line, hit):
    assert [p for p in (MACHINE, HOST) if p.search(line)] == ([hit] if hit else [])
