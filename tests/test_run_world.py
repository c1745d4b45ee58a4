"The experiments of the miniature world: each file of configs/ runs, and the table of their results is the one that was measured."
import importlib.util, math
from pathlib import Path

import pytest
import torch

from bike_nb.evaluation import Evaluation
from bike_nb.training import TrainConfig

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("world_*.yaml"))
SMALL = ["world.workers=1", "num_segments=4", "workers=0", "epochs=1", "lr_warmup_step=0", "batch_size=4", "eval_freq=1", "world.duration=4"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("run_world", ROOT / "scripts" / "run_world.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_experiments(): assert {f.stem for f in FILES} >= {f"world_{n}" for n in ("general", "few-shot", "zero-shot", "multi-label", "attributes")}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_experiment_runs(script, file, tmp_path, monkeypatch):
    "In small: drawn, trained, tested before and after."
    monkeypatch.chdir(tmp_path)
    few = "shots" in TrainConfig.from_yaml(file).world
    small = [*SMALL, "world.clips={val: 14, test: 14}" if few else "world.clips={train: 16, val: 12, test: 12}"] + (["world.shots=2", "shot=2"] if few else [])
    rows = script.one_seed(file, small, 1, "cpu")
    models = {r["model"] for r in rows}
    assert {"zero-shot", "trained"} <= models
    assert ("trained, without order" in models) == (TrainConfig.from_yaml(file).network.sim_header == "Transf")
    main = "mAP" if "multi" in file.stem else "top-1"
    for model in models: assert any(r["model"] == model and r["figure"] == main and 0 <= r["value"] <= 1 for r in rows)
    results = tmp_path / "results.csv"
    script.write_rows(rows, results); script.write_rows(rows, results)                    # once, however often
    assert len(script.read_rows(results)) == len(rows)
    assert file.stem in script.table(script.read_rows(results))


def test_within_the_pair(script):
    "By hand: of two openings one is taken for a closing, of one closing none; a tie is half right."
    names = ["flying a kite", "opening a door", "closing a door", "sun rising", "sun setting", "wheel rolling right", "wheel rolling left"]
    labels = torch.tensor([0, 1, 1, 2, 3])
    scores = torch.zeros(5, 7).double()
    scores[0, 0], scores[1, 1], scores[2, 2], scores[3, 2] = 1, 1, 1, 1
    found = script.order_figures(Evaluation(scores, labels, list("abcde"), names))
    assert found["within the pair"].value == pytest.approx((1 + 0 + 1 + .5) / 4) and found["within the pair"].n == 4
    assert found["within the pair, opening a door"].value == pytest.approx(2 / 3)
    assert found["single-frame actions, top-1"].value == 1 and found["order-only actions, top-1"].n == 4


def test_another_experiment_needs_another_table(script, tmp_path, monkeypatch, capsys):
    "Else a changed key would replace the published rows; named, the table and its folder are made."
    asked = ["run_world.py", "configs/world_general.yaml", "--seeds", "1", "--set", "epochs=2"]
    monkeypatch.setattr(script, "one_seed", lambda *a: [dict.fromkeys(script.FIELDS, 1) | dict(experiment="world_general")])
    for more in ([], ["--results", str(script.RESULTS)]):
        monkeypatch.setattr("sys.argv", asked + more)
        with pytest.raises(SystemExit): script.main()
        assert "name another table" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*asked, "--results", str(tmp_path / "new" / "r.csv")])
    script.main()
    assert len(script.read_rows(tmp_path / "new" / "r.csv")) == 1 and " ".join(asked) in script.__doc__


def test_results_are_those_of_the_files(script):
    "Every experiment has results, the general one of three seeds or more, by the command that stands there."
    rows = script.read_rows()
    for file in FILES:
        mine = [r for r in rows if r["experiment"] == file.stem]
        assert len({r["seed"] for r in mine}) >= (3 if file.stem == "world_general" else 1)
        assert {r["command"] for r in mine} == {f"python scripts/run_world.py configs/{file.name}"}
        assert all(math.isfinite(float(r["value"])) for r in mine)
