"""configs/: our experiment files against the official ones, and the table about them. tests/official_configs.csv holds what decides the result of each
official file, as facts, for clones that lack ../shared."""
import csv, shlex, sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bike_nb.data import LABELS, read_classes
from bike_nb.training import TrainConfig

ROOT = Path(__file__).parents[1]
CONFIGS, OFFICIAL, LISTS = ROOT/"configs", ROOT.parent/"shared/official/configs", ROOT.parent/"shared/official/lists"
sys.path.insert(0, str(ROOT/"scripts"))


def read_table(path):
    with open(path, encoding="utf-8", newline="") as f: return list(csv.DictReader(f))


RESULTS = read_table(CONFIGS/"results.csv")
OURS = {r["official"]: CONFIGS/f"{r['experiment']}.yaml" for r in RESULTS if r["official"]}
FACTS = {r.pop("official"): r for r in read_table(ROOT/"tests/official_configs.csv")}
HERE = {p.relative_to(OFFICIAL).as_posix(): p for p in sorted(OFFICIAL.rglob("*.yaml"))}
# what is a matter of the machine, of the place of files, or of how the same thing is said
FREE = {"data.workers", "data.train_root", "data.val_root", "data.output_path", "data.label_list", "data.num_classes", "data.index_bias", "network.type", "logging.print_freq"}


def flat(config):
    "{section.key: value} of all that decides the result; a checkpoint by its name, without its folder."
    found = {}
    for section, values in config.to_dict().items():
        found |= {f"{section}.{k}": v for k, v in values.items()} if isinstance(values, dict) else {section: values}
    assert found["data.index_bias"] in (None, 1)
    return {k: v for k, v in found.items() if k not in FREE} | {"pretrain": found["pretrain"] and Path(found["pretrain"]).name}


def test_there_is_one_of_ours_for_every_official_experiment():
    assert set(OURS) == set(FACTS) and len(FACTS) == 27 and all(p.exists() for p in OURS.values())
    assert set(HERE) <= set(OURS)
    assert {p.name for p in CONFIGS.glob("*.yaml") if not p.name.startswith("world_")} == {p.name for p in OURS.values()}


@pytest.mark.parametrize("official", sorted(FACTS))
def test_our_file_says_what_the_official_one_says(official):
    config = TrainConfig.from_yaml(OURS[official])
    ours = flat(config)
    for key, value in FACTS[official].items():
        if key in FREE or key == "num_classes": continue
        said = Path(value).name if key == "pretrain" else value
        assert said == ("" if ours[key] is None else str(ours[key])), f"{OURS[official].name}: {key}"
    assert config.data.label_list in LABELS and len(read_classes(config.data.label_list)) == int(FACTS[official]["num_classes"])
    assert config.data.num_classes is None and not any(str(v).startswith("/") for v in config.to_dict()["data"].values())


@pytest.mark.skipif(not HERE, reason="../shared/official is not beside this clone")
@pytest.mark.parametrize("official", sorted(set(FACTS) & set(HERE)) or ["none"])
def test_the_official_file_runs_and_equals_ours(official):
    theirs, ours = TrainConfig.from_yaml(HERE[official]), TrainConfig.from_yaml(OURS[official])
    assert flat(theirs) == flat(ours)
    assert read_classes(LISTS.parent/theirs.data.label_list) == read_classes(ours.data.label_list)
    for key, value in FACTS[official].items():                 # the committed facts are those of the file
        if key == "num_classes": assert int(value) == theirs.data.num_classes
        else: assert value == str("" if (v := _get(theirs, key)) is None else v), key


def _get(config, key):
    for part in key.split("."): config = getattr(config, part)
    return config


def test_the_files_hold_nothing_but_what_is_needed():
    "Each line differs from the default, or is one that a reader looks for."
    default, always = TrainConfig().to_dict(), {"num_segments", "input_size", "batch_size", "image_tmpl", "arch", "sim_header", "interaction", "epochs", "lr"}
    import yaml
    for path in OURS.values():
        for section, values in yaml.safe_load(path.read_text()).items():
            for key, value in values.items() if isinstance(values, dict) else (): assert key in always or default[section][key] != value, f"{path.name}: {section}.{key}"


def test_the_table_is_in_step():
    import make_config_table
    assert (CONFIGS/"README.md").read_text(encoding="utf-8") == make_config_table.make(), "run python scripts/make_config_table.py"
    for r in RESULTS:
        if not r["official"]: continue
        config = TrainConfig.from_yaml(CONFIGS/f"{r['experiment']}.yaml")
        assert (r["model"], int(r["frames"])) == (config.network.arch, config.data.num_segments) and bool(r["figure"]) == bool(r["source"])
        args = shlex.split(r["test"])
        views = [args[args.index(o) + 1] if o in args else "1" for o in ("--clips", "--crops")]
        assert " × ".join(views) == r["views"]
        assert bool(r["train"]) == bool(config.data.train_list)


@pytest.mark.parametrize("row", [r for r in RESULTS if r["official"]], ids=lambda r: r["experiment"])   # those of the world would run: test_run_world.py
def test_the_commands_are_understood(row, tmp_path, monkeypatch):
    "Every command of the table gets as far as the files that only a user has; runs of one dataset and model have names of their own."
    from bike_nb.cli import app
    monkeypatch.chdir(tmp_path); (tmp_path/"configs").symlink_to(CONFIGS)
    for command in filter(None, (row["train"], row["test"])):
        args = shlex.split(command.split("bike_nb ", 1)[1])
        if args[0] == "test": args[2] = "nowhere.pt"
        else: args += ["--set", "init=false", "--set", "arch=tiny", "--set", "pretrain=null"]
        result = CliRunner().invoke(app, [*args, "--quiet"])
        said = result.output.strip()
        assert result.exit_code == 1 and len(said.splitlines()) == 1 and ("lists/" in said or "data/" in said or "nowhere.pt" in said), said


def test_runs_have_folders_of_their_own():
    from bike_nb.training import run_folder
    folders = [run_folder(TrainConfig.from_yaml(CONFIGS/f"{r['experiment']}.yaml"), r["train"].split("--name ")[1]) for r in RESULTS if r["official"] and r["train"]]
    assert len(set(map(str, folders))) == len(folders)
    for r, folder in zip([r for r in RESULTS if r["official"] and r["train"]], folders):
        assert str(folder) in r["test"] or "bike-k400" in r["test"]
