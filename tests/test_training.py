"Training: experiment files, exact resume after kills, several processes, both branches, what stops a run."
import copy, json, math, os, random, signal, subprocess, sys, time, types, warnings
from pathlib import Path

import pytest
import torch

from bike_nb import training
from bike_nb.encoder import build_model, save_encoder
from bike_nb.model import BIKE, load, load_official, save_official
from bike_nb.splits import write_split
from bike_nb.training import (BEFORE, BEST, LAST, Learner, Run, Ranks, TrainConfig, TrainingError, find_checkpoint, fit, load_trained, make_optimizer, make_schedule,
                              pick_precision, read_metrics, read_state, run_folder, save_checkpoint, seed_all)

HERE = Path(__file__).parent
OFFICIAL = HERE.parents[1]/"shared"/"official"/"configs"
SMALL = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 64, "patch_size": 8},
         "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A split in frame folders, and a small random ViT to train on it."
    home = tmp_path_factory.mktemp("training")
    notes = write_split(home/"world", "general", clips=dict(train=40, val=11), size=40, fps=2, format="frames", workers=1)
    save_encoder(build_model(SMALL), home/"small", SMALL, {"size": [32, 32]}, dtype=torch.float32)
    words = {c["file"]: {"classname_topk": sorted(c["words"])[:5]} for c in notes["clips"]}
    (home/"attributes.json").write_text(json.dumps(words))
    return home


@pytest.fixture
def raw(home, tmp_path):
    "An experiment as nested dictionaries: 10 steps in 2 epochs."
    world = home/"world"
    return {"seed": 3, "data": dict(dataset="world", train_root=str(world), val_root=str(world), train_list=str(world/"train.txt"), val_list=str(world/"val.txt"),
                                    label_list=str(world/"classes.csv"), num_segments=3, batch_size=8, workers=0, input_size=32, output_path=str(tmp_path/"runs"),
                                    attributes_train_path=None, attributes_val_path=None),
            "network": dict(arch=str(home/"small"), sim_header="Transf", branch="video"),
            "solver": dict(lr=1e-3, epochs=2, lr_warmup_step=1), "logging": dict(print_freq=1, eval_freq=1)}


def changed(raw, **changes):
    "The experiment with `section__key=value` changed."
    raw = copy.deepcopy(raw)
    for key, value in changes.items():
        section, name = key.split("__")
        raw[section][name] = value
    return TrainConfig.from_dict(raw)


def with_attributes(raw, home, **changes):
    path = str(home/"attributes.json")
    return changed(raw, data__attributes_train_path=path, data__attributes_val_path=path, **changes)


def weights(path):
    "All weights in a checkpoint, flat."
    state = read_state(path)
    found = {f"clip.{k}": v for k, v in state["model_state_dict"].items()} | {f"head.{k}": v for k, v in state["fusion_model_state_dict"].items()}
    return found | {f"attributes.{k}": v for k, v in state["training"].get("attributes", {}).items()}


def largest_gap(a, b):
    assert a.keys() == b.keys()
    return max((a[k].double() - b[k].double()).abs().max().item() for k in a if a[k].numel())


def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def start(config, name, tmp_path, ranks=1, sabotage=()):
    "tests/run_fit.py in a process of its own, or in several by torchrun."
    file = tmp_path/f"{name}.json"
    file.write_text(json.dumps(config.to_dict()))
    launcher = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    return subprocess.Popen([sys.executable, *launcher, str(HERE/"run_fit.py"), str(file), name, *sabotage], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)


def finish(process, seconds=100):
    try: out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"still running after {seconds} s: {process.communicate()}")
    return process.returncode, out, err


# ---------------------------------------------------------------- experiment files

@pytest.mark.skipif(not OFFICIAL.exists(), reason="the official experiment files are not beside this checkout")
def test_every_official_file_is_read_as_it_is():
    files = sorted(OFFICIAL.glob("*/*.yaml"))
    assert len(files) >= 20
    for file in files:
        config = TrainConfig.from_yaml(file)
        assert config.network.sim_header in ("Transf", "None") and isinstance(config.solver.lr, float)
        assert config.data.shot == (2 if "few" in file.name else None)
        make_schedule(config)


def test_overrides_reach_their_section(tmp_path):
    file = tmp_path/"a.yaml"
    file.write_text("seed: 5\nnetwork: {arch: tiny, sim_header: None}\nsolver: {lr: 5.e-5}\n")
    config = TrainConfig.from_yaml(file, ["lr=3e-4", "data.shot=4", "network.sim_header=Transf", "seed=7", "data.crop_scale=[0.5, 1]", "pretrain=None"])
    assert (config.solver.lr, config.data.shot, config.network.sim_header, config.seed, config.data.crop_scale, config.pretrain) == (3e-4, 4, "Transf", 7, [0.5, 1], None)


@pytest.mark.parametrize("text, says", [
    ("solver: {lrr: 1}", "a.yaml: there is no key solver.lrr: did you mean solver.lr?"), ("sovler: {lr: 1}", "did you mean solver?"),
    ("solver: {epochs: many}", "solver.epochs is 'many': it must be a whole number"), ("solver: [1, 2]", "the section solver holds"),
    ("data: {batch_size: 0}", "data.batch_size is 0: it must be at least 1"), ("network: {interaction: CAT}", "one of VCS, DP"), ("data: {seg_length: 3}", "one frame a segment"),
    ("solver: {batch_size: 8}", "no key solver.batch_size: did you mean data.batch_size?"), ("lr: 1", "no section or key lr: did you mean solver.lr?"),
    ("data: {epochs: 2}", "did you mean solver.epochs?"), ("network: {seed: 3}", "did you mean seed?"), ("data: {type: x}", "did you mean network.type or solver.type?"),
    ("data: {batch: 8}", "did you mean data.batch_size?"), ("solver: {batch: 8}", "did you mean data.batch_size?"),
    ("solver: {clip_grad: -1}", "solver.clip_grad is -1.0: it must be at least 0"), ("solver: {text_ratio: -1}", "solver.text_ratio is -1.0: it must be at least 0"),
    ("solver: {weight_decay: -1}", "at least 0"), ("solver: {momentum: -1}", "at least 0"), ("solver: {momentum: 2}", "solver.momentum is 2.0: it must be below 1"),
    ("data: {shot: 0}", "data.shot is 0: it must be at least 1"), ("network: {temperature: 0}", "network.temperature is 0.0: it must be above 0"),
    ("seed: -1", "seed is -1: it must be at least 0"), ("seed: 100000000000000000000", "it must be below 4294967296"),
    ("data: {crop_scale: [a, b]}", "data.crop_scale is ['a', 'b']: it must be two numbers"), ("data: {crop_scale: [0.5]}", "it must be two numbers"),
    ("solver: {type: multistep}", "solver.lr_decay_step is None: it must be the epochs between two drops"),
    ("solver: {type: multistep, lr_decay_step: [a, 10]}", "solver.lr_decay_step is ['a', 10]: epochs must be numbers"),
    ("world: foo", "the section world holds 'foo': it must be a list of"), ("a: [", "line 1"), ("just text", "holds no sections"), ("data: {prompt: no}", "must hold {} once"), ("solver: {start_epoch: 4}", "give resume=FILE")])
def test_what_an_experiment_file_may_not_say(tmp_path, text, says):
    file = tmp_path/"a.yaml"
    file.write_text(text)
    with pytest.raises(TrainingError) as error: TrainConfig.from_yaml(file)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key, meant", [("data.epochs", "did you mean solver.epochs?"), ("network.lr", "did you mean solver.lr?"), ("solver.arch", "did you mean network.arch?"),
    ("data.seed", "did you mean seed?"), ("solver.epoch", "did you mean solver.epochs?"), ("data.type", "did you mean network.type or solver.type?"),
    ("solver.typ", "did you mean solver.type?"), ("qqq", "there is no such key."), ("type", "several sections have such a key, so give network.type or solver.type.")])
def test_a_key_in_the_wrong_section_is_found_by_its_name(key, meant):
    with pytest.raises(TrainingError) as error: training.override({}, [f"{key}=2"])
    assert str(error.value).startswith(f"--set {key}: ") and str(error.value).endswith(meant)


@pytest.mark.parametrize("raw, text", [({"solver": [1, 2]}, "epochs=2"), ({"world": "foo"}, "world.size=5"), ({"solver": 3}, "lr=1")])
def test_nothing_is_set_in_a_section_that_is_none(raw, text):
    with pytest.raises(TrainingError, match="the section (solver|world) holds .*: it must be a list of `key: value` lines"): training.override(raw, [text])
    assert training.override({"solver": None}, ["lr=1"]) == {"solver": {"lr": 1}}


def test_a_configuration_survives_as_data():
    config = TrainConfig.from_dict({"solver": {"lr": 1e-3}, "world": {"root": "x"}})
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


# ---------------------------------------------------------------- one run

def test_a_run_leaves_what_it_promises(raw):
    config = changed(raw)
    found = fit(config, "a", "cpu", progress=False)
    assert found.done == 10 and found.folder == run_folder(config, "a")
    rows = found.history()
    steps = [r for r in rows if "loss" in r]
    assert [r["done"] for r in steps] == list(range(1, 11)) and all(math.isfinite(r["loss"]) for r in steps)
    schedule = make_schedule(config)
    for i, row in enumerate(steps): assert row["lr"] == pytest.approx([1e-4 * schedule(i / 5), 1e-3 * schedule(i / 5)])
    assert [r["val top-1"] for r in rows if "val top-1" in r][-1] == found.figures["top-1"]
    assert {f.name for f in found.folder.iterdir()} == {LAST, BEFORE, BEST, "metrics.jsonl"}
    official = torch.load(found.folder/LAST, weights_only=True)
    assert official["epoch"] == 1 and {"model_state_dict", "fusion_model_state_dict", "optimizer_state_dict"} <= official.keys()
    again = fit(config, "a", "cpu", progress=False)              # nothing left to do
    assert again.done == 10 and again.figures == found.figures


def test_the_official_code_and_ours_read_the_same_model(raw):
    found = fit(changed(raw, solver__epochs=1), "a", "cpu", progress=False)
    ours, theirs = load_trained(found.folder/LAST, device="cpu"), load_official(found.folder/LAST)
    assert same(ours.state_dict(), theirs.state_dict())


def test_temporal_layers_survive_every_way_out(raw, tmp_path):
    "Two blocks instead of six: in the run, in checkpoints of ours and official ones (without our key: from the weights), in a saved folder."
    found = fit(changed(raw, solver__epochs=1, network__temporal_layers=2), "a", "cpu", progress=False)
    ours = load_trained(found.folder/LAST, device="cpu")
    with pytest.warns(UserWarning, match="6 temporal layers"): save_official(ours, tmp_path/"official.pt")
    state = torch.load(tmp_path/"official.pt", weights_only=True)
    del state["bike_nb"]
    torch.save(state, tmp_path/"theirs.pt")
    ours.save_pretrained(tmp_path/"folder")
    models = [ours, load_official(found.folder/LAST), load_official(tmp_path/"official.pt"), load_official(tmp_path/"theirs.pt"), load_trained(tmp_path/"theirs.pt", device="cpu"),
              load(tmp_path/"folder", "cpu")]
    for model in models: assert len(model.video.transformer["resblocks"]) == 2 and same(model.state_dict(), ours.state_dict())
    assert fit(changed(raw, solver__epochs=1, network__temporal_layers=2), "a", "cpu", progress=False).figures == found.figures
    with pytest.raises(TrainingError, match="temporal_layers 2, not 6"): fit(changed(raw, solver__epochs=1), "a", "cpu", progress=False)
    config = changed(raw); config.pretrain = str(tmp_path/"theirs.pt")
    with pytest.raises(ValueError, match="theirs.pt does not fit: it lacks transformer.resblocks.2"): training.prepare_model(config, Ranks())
    assert len(training.prepare_model(changed(raw), Ranks()).video.transformer["resblocks"]) == 6
    with pytest.raises(TrainingError, match="network.temporal_layers is 0: it must be at least 1"): changed(raw, network__temporal_layers=0)


def test_a_run_that_began_before_a_key_was_there_goes_on(raw):
    found = fit(changed(raw, solver__epochs=1), "a", "cpu", progress=False)
    state = read_state(found.folder/LAST)
    del state["training"]["config"]["network"]["temporal_layers"]
    torch.save(state, found.folder/LAST)
    assert fit(changed(raw, solver__epochs=1), "a", "cpu", progress=False).figures == found.figures


@pytest.mark.parametrize("what", ["text", "video", "neither"])
def test_what_is_frozen_does_not_move(raw, home, what):
    config = changed(raw, solver__epochs=1, network__fix_text=what == "text", network__fix_video=what == "video")
    before = BIKE.state_dict(training.prepare_model(config, Ranks()))
    after = weights(fit(config, "a", "cpu", progress=False).folder/LAST)
    moved = {"video": [k for k in after if k.startswith("clip.visual.") and not torch.equal(after[k], before[k])],
             "text": [k for k in after if k.startswith("clip.") and not k.startswith("clip.visual.") and k != "clip.logit_scale" and not torch.equal(after[k], before[k])]}
    for tower, keys in moved.items(): assert bool(keys) == (tower != what)
    assert not torch.equal(after["clip.logit_scale"], before["clip.logit_scale"])


def test_both_branches_together_are_two_runs_apart(raw, home):
    "The branches share nothing that is trained, so one loop for both gives the weights of a loop for each."
    run = lambda branch: weights(fit(with_attributes(raw, home, network__branch=branch), branch, "cpu", progress=False).folder/LAST)
    video, attributes, both = run("video"), run("attributes"), run("both")
    assert same({k: v for k, v in both.items() if not k.startswith("attributes.")}, video)
    heads = {k.removeprefix("attributes."): v for k, v in both.items() if k.startswith("attributes.")}
    assert torch.equal(heads.pop("scale"), attributes["attributes.scale"])
    assert same(heads, {k.removeprefix("head."): v for k, v in attributes.items() if k.startswith("head.")})


def test_both_branches_need_a_text_tower_that_stands_still(raw, home):
    "What the attributes branch reads is encoded once: with a tower that moves, a resumed run would be another one."
    for branch in ("both", None):
        with pytest.raises(TrainingError, match="with both branches the text tower stays as it is: set network.fix_text to true"):
            fit(with_attributes(raw, home, network__branch=branch, network__fix_text=False), "a", "cpu", progress=False)


def test_both_branches_are_fused_in_evaluation_and_loaded_together(raw, home):
    found = fit(with_attributes(raw, home, network__branch=None), "a", "cpu", progress=False)
    model = load_trained(found.checkpoint, device="cpu")
    assert model.video is not None and model.attributes is not None
    assert any("attributes" in name for name in found.figures)


def test_accumulated_gradients_are_the_mean_of_their_batches(raw):
    "Three batches in groups of two: a step of the mean of two, and a last one of its own."
    config = changed(raw, solver__grad_accumulation_steps=2, solver__epochs=1, solver__optim="sgd", solver__momentum=0., solver__weight_decay=0., data__batch_size=13)
    after = weights(fit(config, "a", "cpu", progress=False).folder/LAST)
    seed_all(config.seed)
    run = Run(config, "unused", Ranks(), progress=False)
    run.loader.set_epoch(0); run.model.train()
    batches = list(run.loader)
    assert len(batches) == 3
    for i, group in ((0, batches[:2]), (2, batches[2:])):
        rate = run.schedule((i + len(group) - 1) / 3)
        grads = [torch.autograd.grad(run.learner(b)["video"], [p for g in run.optimizer.param_groups for p in g["params"]]) for b in group]
        with torch.no_grad():
            params = [(p, g["base_lr"]) for g in run.optimizer.param_groups for p in g["params"]]
            for k, (p, lr) in enumerate(params): p -= lr * rate * sum(g[k] for g in grads) / len(group)
    ours = {f"clip.{k}": v for k, v in run.model.clip.state_dict().items()} | {f"head.{k}": v for k, v in run.model.video.state_dict().items()}
    assert largest_gap(after, ours) < 1e-6


def test_reversed_twins_are_clips_of_the_other_class(raw):
    "The loss with `reversals` is that of a batch in which the clips stand backwards, too."
    config = changed(raw, data__reversals=[["opening a door", "closing a door"]], network__fix_text=False)
    run = Run(config, "unused", Ranks(), progress=False)
    plain = Learner(run.model, run.train.classes, changed(raw, network__fix_text=False))
    a, b = (run.train.classes.index(n) for n in ("opening a door", "closing a door"))
    frames = torch.stack([run.train[i]["frames"] for i in range(4)])
    labels = torch.tensor([a, b, a + 1 if a + 1 != b else 0, a])
    own = torch.tensor([True, True, False, True])
    twins = {"frames": torch.cat([frames, frames[own].flip(2)]), "label": torch.cat([labels, torch.tensor([b, a, b])])}
    with torch.no_grad(): ours, theirs = run.learner({"frames": frames, "label": labels})["video"], plain(twins)["video"]
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6) and abs(ours.item() - plain({"frames": frames, "label": labels})["video"].item()) > 1e-3


def test_checkpointed_gradients_are_the_same(raw):
    config = changed(raw, solver__epochs=1)
    plain = weights(fit(config, "plain", "cpu", progress=False).folder/LAST)
    saving = weights(fit(changed(raw, solver__epochs=1, network__grad_checkpointing=True), "saving", "cpu", progress=False).folder/LAST)
    assert largest_gap(plain, saving) < 1e-6


def test_batch_statistics_stay_where_they_are(raw):
    config = changed(raw, network__arch="tiny", data__input_size=96, data__num_segments=2, solver__epochs=1)
    config.network.arch = "tiny"
    before, model = training.prepare_model(config, Ranks()).clip.state_dict(), None
    run = Run(config, "unused", Ranks(), progress=False)
    run.model.train()
    run.learner(next(iter(run.loader)))["video"].backward()
    after = run.model.clip.state_dict()
    running = [k for k in after if "running_" in k]
    assert running and all(torch.equal(before[k], after[k]) for k in running)


@pytest.mark.filterwarnings("ignore:bf16 is emulated")
def test_half_precision_on_a_cpu_follows_full(raw):
    losses = {p: [r["loss"] for r in fit(changed(raw, solver__precision=p, solver__epochs=1), p, "cpu", progress=False).history() if "loss" in r] for p in ("fp32", "bf16")}
    assert losses["bf16"] != losses["fp32"] and losses["bf16"] == pytest.approx(losses["fp32"], abs=0.05)


@pytest.mark.filterwarnings("ignore:bf16 is emulated")
def test_both_branches_in_half_precision(raw, home):
    found = fit(with_attributes(raw, home, network__branch="both", solver__precision="bf16", solver__epochs=1), "a", "cpu", progress=False)
    assert found.done == 5 and all(math.isfinite(r["loss"]) for r in found.history() if "loss" in r)


def test_automatic_precision_takes_no_emulated_bf16(monkeypatch):
    "A T4 computes bf16 by detours; PyTorch counts it as able unless it is asked not to."
    for native, name in ((False, torch.float16), (True, torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
        assert pick_precision("auto", "cuda") == (torch.float32, name, not native)


def test_emulated_bf16_is_said_once(monkeypatch):
    for quick, name, times in ((False, "bf16", 1), (False, "amp", 1), (True, "bf16", 0), (False, "fp32", 0), (False, "auto", 0)):
        monkeypatch.setattr(training, "bfloat16_pays", lambda device: quick)
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("default")                     # as without any filter
            for _ in range(2): pick_precision(name, "cpu")
        assert [str(w.message) for w in heard] == times * ["bf16 is emulated on this CPU, which takes many times as long: solver.precision=fp32 is quicker."]


def test_tf32_ends_with_the_run_that_asked_for_it(monkeypatch):
    said, model = [], types.SimpleNamespace(to=lambda *_: model, modules=lambda: [], clip=types.SimpleNamespace(visual=torch.nn.Identity()))
    monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
    for tf32 in (True, False): training._laid_out(model, training.SolverConfig(precision="fp32", tf32=tf32), torch.device("cuda"))
    assert said == ["high", "highest"]


@pytest.mark.slow
def test_a_compiled_tower_learns_the_same(raw):
    plain = weights(fit(changed(raw, solver__epochs=1), "plain", "cpu", progress=False).folder/LAST)
    quick = weights(fit(changed(raw, solver__epochs=1, solver__compile=True, solver__optim="adamw"), "quick", "cpu", progress=False).folder/LAST)
    assert plain.keys() == quick.keys() and largest_gap(plain, quick) < 5e-3   # AdamW turns rounding into steps of the rate


def test_few_shot_repeats_its_clips_to_an_epoch(raw):
    found = fit(changed(raw, data__shot=1, solver__epochs=1), "a", "cpu", progress=False)
    assert found.done == 40 // 8


def test_charades_layout_trains_on_segments_and_tests_with_map(tmp_path, raw):
    world = tmp_path/"charades"
    write_split(world, "multi-label", clips=dict(train=12, val=6), size=40, fps=4, format="frames", workers=1)
    config = changed(raw, data__dataset="charades", data__train_root=str(world/"train"), data__val_root=str(world/"val"), data__train_list=str(world/"train_segments.csv"),
                     data__val_list=str(world/"val.csv"), data__label_list=str(world/"classes.txt"), data__image_tmpl="{}-{:06d}.jpg", data__fps=4, solver__epochs=1)
    found = fit(config, "a", "cpu", progress=False)
    assert set(found.figures) == {"mAP"} and found.best == found.figures["mAP"] > 0


def test_only_the_evaluation(raw):
    found = fit(changed(raw, solver__evaluate=True), "a", "cpu", progress=False)
    assert found.done == 0 and "top-1" in found.figures and not (found.folder/LAST).exists()


# ---------------------------------------------------------------- stopped, and on again

def test_kills_at_random_steps_change_nothing(raw, tmp_path):
    "SIGKILL again and again, each time at a step drawn by lot: the weights end bit-identical to a run left alone."
    config = changed(raw, logging__save_freq=1, data__workers=1)
    finish(start(config, "alone", tmp_path))
    lot, kills = random.Random(time.time_ns()), []
    for _ in range(3):
        process, stop = start(config, "killed", tmp_path), lot.randint(1, 8)
        metrics, deadline = run_folder(config, "killed")/"metrics.jsonl", time.time() + 60
        done = lambda: max((r["done"] for r in read_metrics(metrics)), default=0)
        while process.poll() is None and done() < stop and time.time() < deadline: time.sleep(0.002)
        time.sleep(lot.random() * 0.05)
        os.killpg(process.pid, signal.SIGKILL); process.communicate()
        kills.append((stop, done()))
    code, out, err = finish(start(config, "killed", tmp_path))
    assert code == 0, err
    assert same(weights(run_folder(config, "alone")/LAST), weights(run_folder(config, "killed")/LAST)), f"killed at {kills}"
    rows = [[{k: v for k, v in r.items() if k != "clips_per_second"} for r in read_metrics(run_folder(config, n)/"metrics.jsonl")] for n in ("alone", "killed")]
    assert rows[0] == rows[1]
    assert not list(run_folder(config, "killed").glob(".*.part"))


def stop_after(monkeypatch, steps):
    "Make training end with KeyboardInterrupt after so many optimizer steps."
    honest, left = training.optimizer_step, [steps]
    def step(run):
        if not left[0]: raise KeyboardInterrupt
        left[0] -= 1
        honest(run)
    monkeypatch.setattr(training, "optimizer_step", step)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(raw, monkeypatch):
    config = changed(raw, logging__save_freq=2)
    alone = weights(fit(config, "alone", "cpu", progress=False).folder/LAST)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        stop_after(m, 7)
        fit(config, "cut", "cpu", progress=False)
    last = run_folder(config, "cut")/LAST
    assert read_state(last)["training"]["done"] == 6
    last.write_bytes(last.read_bytes()[:-1000])
    with pytest.warns(UserWarning, match="last_model.pt is damaged.*going on from the one before"): found = fit(config, "cut", "cpu", progress=False)
    assert same(alone, weights(found.folder/LAST))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damage_is_found_wherever_it_is(raw, damage):
    "Of the last of two checkpoints: the one before is taken; of both: that is said."
    run = fit(changed(raw), "a", "cpu", progress=False)
    for name in (LAST, BEFORE):
        data = bytearray((run.folder/name).read_bytes())
        if damage == "cut": data = data[:random.Random(0).randrange(100, len(data))]
        elif damage == "empty": data = b""
        else: data[len(data) // 2] ^= 255
        (run.folder/name).write_bytes(data)
        if name == BEFORE: break
        state, said = find_checkpoint(run.folder)
        assert state["training"]["epoch"] == 1 and len(said) == 1 and f"{LAST} is damaged" in said[0] and "going on from the one before" in said[0]
    with pytest.raises(TrainingError, match="remove them to start anew"): find_checkpoint(run.folder)


def test_every_change_of_a_checkpoint_is_damage(tmp_path):
    "Bits of the archive's own tables, too, which Python's zipfile answers with errors of many kinds."
    save_checkpoint(tmp_path, {"training": {"w": torch.randn(50)}, "more": {f"k{i}": torch.randn(20) for i in range(9)}})
    whole, lot, said = (tmp_path/LAST).read_bytes(), random.Random(0), set()
    for _ in range(300):
        data = bytearray(whole); data[-lot.randrange(1, 3000)] ^= 1 << lot.randrange(8)
        (tmp_path/LAST).write_bytes(data)
        try: read_state(tmp_path/LAST)
        except TrainingError as error: said.add(str(error).split(LAST)[1].split("(")[0])
    assert said == {" is damaged "}


def test_what_cannot_be_read_is_not_called_damaged(raw):
    "Nor passed over: the newest checkpoint is good, only out of reach or no checkpoint of this loop."
    folder = fit(changed(raw), "a", "cpu", progress=False).folder
    whole = (folder/LAST).read_bytes(); (folder/LAST).unlink(); (folder/LAST).mkdir()
    with pytest.raises(TrainingError, match=r"last_model.pt cannot be read \(Is a directory\)\.$"): find_checkpoint(folder)
    (folder/LAST).rmdir(); torch.save({"epoch": 1, "model_state_dict": {}}, folder/LAST)
    with pytest.raises(TrainingError, match="last_model.pt is no checkpoint of this loop"): find_checkpoint(folder)
    assert (folder/BEFORE).exists() and len(whole)


def fill_the_disk(monkeypatch):
    def full(state, file): file.write(b"half"); raise OSError(28, "No space left on device")
    monkeypatch.setattr(torch, "save", full)


def test_a_full_disk_leaves_the_old_checkpoints(raw, monkeypatch):
    run = fit(changed(raw), "a", "cpu", progress=False)
    before = [(run.folder/name).read_bytes() for name in (LAST, BEFORE)]
    fill_the_disk(monkeypatch)
    with pytest.raises(TrainingError, match="/last_model.pt cannot be written .No space left on device"): save_checkpoint(run.folder, {})
    assert [(run.folder/name).read_bytes() for name in (LAST, BEFORE)] == before and not list(run.folder.glob(".*.part"))


@pytest.mark.filterwarnings("ignore:.*going on from the one before")
def test_a_damaged_checkpoint_never_takes_the_place_of_a_good_one(raw, monkeypatch):
    "The last is damaged, the run goes on from the one before, and the disk is full at its first save: the good one is still there."
    config = changed(raw, logging__save_freq=2)
    alone = weights(fit(config, "alone", "cpu", progress=False).folder/LAST)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        stop_after(m, 7)
        fit(config, "cut", "cpu", progress=False)
    folder = run_folder(config, "cut")
    (folder/LAST).write_bytes((folder/LAST).read_bytes()[:-1000])
    good = (folder/BEFORE).read_bytes()
    for _ in range(2):                                           # the second time nothing is damaged any more
        with monkeypatch.context() as m, pytest.raises(TrainingError, match="last_model.pt cannot be written"):
            fill_the_disk(m)
            fit(config, "cut", "cpu", progress=False)
        assert (folder/BEFORE).read_bytes() == good and not (folder/LAST).exists()
    assert same(alone, weights(fit(config, "cut", "cpu", progress=False).folder/LAST))


def test_checkpoints_need_no_hard_links(tmp_path, monkeypatch):
    def refused(*_): raise PermissionError(1, "Operation not permitted")
    monkeypatch.setattr(os, "link", refused)
    for step in (1, 2, 3): save_checkpoint(tmp_path, {"training": {"step": step}})
    assert [read_state(tmp_path/name)["training"]["step"] for name in (BEFORE, LAST)] == [2, 3]


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt()])
def test_a_test_that_fails_does_not_cost_the_epoch(raw, monkeypatch, error):
    config, rows = changed(raw), lambda run: [{k: v for k, v in r.items() if k != "clips_per_second"} for r in run.history()]
    alone = fit(config, "alone", "cpu", progress=False)
    def fails(run): raise error
    with monkeypatch.context() as m, pytest.raises(type(error)):
        m.setattr(Run, "evaluate", fails)
        fit(config, "a", "cpu", progress=False)
    place = read_state(run_folder(config, "a")/LAST)["training"]
    assert (place["epoch"], place["step"], place["done"]) == (0, 5, 5)
    again = fit(config, "a", "cpu", progress=False)
    assert same(weights(alone.folder/LAST), weights(again.folder/LAST)) and rows(alone) == rows(again)


def test_another_experiment_may_not_go_on_in_the_folder(raw):
    fit(changed(raw, solver__epochs=1), "a", "cpu", progress=False)
    with pytest.raises(TrainingError, match="holds a run with solver.lr 0.001, not 0.002"): fit(changed(raw, solver__lr=2e-3, solver__epochs=1), "a", "cpu", progress=False)
    fit(changed(raw, solver__epochs=1, data__workers=1), "a", "cpu", progress=False)


def test_resume_names_a_checkpoint_from_elsewhere(raw, tmp_path, monkeypatch):
    config = changed(raw)
    alone = fit(config, "alone", "cpu", progress=False)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        stop_after(m, 7)
        fit(config, "half", "cpu", progress=False)
    config.resume = str(run_folder(config, "half")/LAST)
    assert same(weights(fit(config, "other", "cpu", progress=False).folder/LAST), weights(alone.folder/LAST))


@pytest.mark.parametrize("other, says", [(dict(network__temporal_layers=2), "network.temporal_layers 6, not 2"), (dict(solver__lr=1.), "solver.lr 0.001, not 1.0")])
def test_resume_goes_on_with_no_other_experiment(raw, other, says):
    first, config = fit(changed(raw, solver__epochs=1), "a", "cpu", progress=False), changed(raw, solver__epochs=1, **other)
    config.resume = str(first.folder/LAST)
    with pytest.raises(TrainingError) as error: fit(config, "b", "cpu", progress=False)
    assert f"{config.resume} holds a run with {says}: name it as `pretrain`" in str(error.value)


def test_pretrain_starts_anew_from_weights(raw):
    first = fit(changed(raw, solver__epochs=1), "a", "cpu", progress=False)
    config = changed(raw); config.pretrain = str(first.folder/LAST)
    run = Run(config, "unused", Ranks(), progress=False)
    assert same({k: v for k, v in weights(first.folder/LAST).items() if k.startswith("clip.")}, {f"clip.{k}": v for k, v in run.model.clip.state_dict().items()})
    assert run.where["done"] == 0


# ---------------------------------------------------------------- several processes

@pytest.mark.parametrize("how", [dict(solver__optim="sgd", solver__lr=0.02, network__fix_text=True), dict(solver__precision="fp64", network__fix_text=False, solver__loss_type="DS"),
                                 dict(solver__precision="fp64", solver__grad_accumulation_steps=2, network__branch="both"),
                                 dict(solver__precision="fp64", network__branch="attributes"),
                                 dict(solver__precision="fp64", network__fix_text=False, data__reversals=[["opening a door", "closing a door"], ["sun rising", "sun setting"]])])
def test_two_processes_are_one_with_the_same_batch(raw, home, tmp_path, how):
    "To 1e-6: SGD in single precision; AdamW, which turns rounding errors of vanishing gradients into steps of the full rate, in double."
    one, two = with_attributes(raw, home, **how), with_attributes(raw, home, **how, data__batch_size=4)
    processes = start(one, "one", tmp_path), start(two, "two", tmp_path, ranks=2)
    for process in processes:
        code, out, err = finish(process)
        assert code == 0, err
    a, b = (run_folder(c, n) for c, n in ((one, "one"), (two, "two")))
    learns = "attributes." if one.network.branch == "attributes" else "clip.visual."
    before = {k: v for k, v in training.prepare_model(one, Ranks()).state_dict().items() if k.startswith(learns)}
    after = weights(a/LAST)
    assert max((after[k].double() - before[k].double()).abs().max().item() for k in before) > 1e-4      # it has gone somewhere
    assert largest_gap(after, weights(b/LAST)) < 1e-6
    losses = [[r["loss"] for r in read_metrics(f/"metrics.jsonl") if "loss" in r] for f in (a, b)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    figures = [[{k: v for k, v in r.items() if k.startswith("val ")} for r in read_metrics(f/"metrics.jsonl") if "val top-1" in r] for f in (a, b)]
    assert figures[0] == figures[1]


def test_the_official_gather_gives_clip_half_a_gradient(raw, tmp_path):
    "Two processes, SGD: with the official gather the towers move half as far in the first step, the head as far."
    how = dict(solver__optim="sgd", solver__lr=0.02, solver__momentum=0., solver__weight_decay=0., solver__epochs=1, solver__lr_warmup_step=0, data__batch_size=20)
    moved = {}
    for gather in ("exact", "official"):
        config = changed(raw, **how, solver__gather=gather)
        code, out, err = finish(start(config, gather, tmp_path, ranks=2))
        assert code == 0, err
        before, after = training.prepare_model(config, Ranks()).state_dict(), weights(run_folder(config, gather)/LAST)
        moved[gather] = {k: (after[k] - before[k]) for k in ("clip.visual.conv1.weight", "clip.logit_scale")}
    assert torch.allclose(moved["official"]["clip.visual.conv1.weight"], moved["exact"]["clip.visual.conv1.weight"] / 2, atol=1e-7)
    assert torch.allclose(moved["official"]["clip.logit_scale"], moved["exact"]["clip.logit_scale"], atol=1e-7)


def test_a_rank_that_fails_ends_the_job_with_its_own_error(raw, tmp_path):
    config = changed(raw, data__batch_size=4)
    began = time.time()
    code, out, err = finish(start(config, "a", tmp_path, ranks=2, sabotage=["rank1:3"]), 60)
    assert code != 0 and "bike_nb: this rank was told to fail." in err
    assert time.time() - began < 60


# ---------------------------------------------------------------- what stops a run

def test_a_loss_that_is_no_number_stops_the_run(raw, monkeypatch):
    config = changed(raw, logging__save_freq=2)
    honest, count = training.step_losses, [0]
    def poisoned(learner, batch):
        count[0] += 1
        losses = honest(learner, batch)
        return losses if count[0] < 8 else {k: v * math.nan for k, v in losses.items()}
    monkeypatch.setattr(Learner, "forward", poisoned)
    with pytest.raises(TrainingError) as error: fit(config, "a", "cpu", progress=False)
    said = str(error.value)
    assert "epoch 1, iteration 2" in said and "the video loss is nan" in said and "\n" not in said
    paths = [line.split()[0] for line in Path(config.data.train_list).read_text().splitlines()]
    assert sum(p in said for p in paths) == config.data.batch_size
    last = run_folder(config, "a")/LAST
    assert str(last) in said and read_state(last)["training"]["done"] == 6
    assert all(v.isfinite().all() for v in weights(last).values() if v.is_floating_point())


def test_weights_that_are_no_numbers_are_never_saved(raw, monkeypatch):
    config = changed(raw, solver__lr=1e30, solver__optim="sgd", solver__lr_warmup_step=0, logging__save_freq=1)
    with pytest.raises(TrainingError, match="is not finite after|loss is"): fit(config, "a", "cpu", progress=False)
    folder = run_folder(config, "a")
    for file in folder.glob("*.pt"): assert all(v.isfinite().all() for v in weights(file).values() if v.is_floating_point())


def test_tensorboard_that_is_not_there_is_said_at_once(raw, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="needs the package tensorboard"): fit(changed(raw, logging__tensorboard=True), "a", "cpu", progress=False)


def test_missing_videos_are_counted_not_skipped(raw, tmp_path):
    lines = Path(raw["data"]["train_list"]).read_text().splitlines()
    broken = tmp_path/"train.txt"
    broken.write_text("\n".join(["gone/clip 12 3"] + lines[1:]) + "\n")
    with pytest.warns(UserWarning, match="gone/clip"): found = fit(changed(raw, data__train_list=str(broken), solver__epochs=1), "a", "cpu", progress=False)
    assert [r["missing"] for r in found.history() if "missing" in r][-1] == 1


def test_too_few_clips_for_a_batch(raw):
    with pytest.raises(ValueError, match="40 videos do not fill one step of 64"): fit(changed(raw, data__batch_size=64), "a", "cpu", progress=False)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["amp", "bf16", "fp32"])
def test_on_a_gpu(raw, precision):
    found = fit(changed(raw, solver__precision=precision), "a", "cuda", progress=False)
    cpu = fit(changed(raw, solver__precision="fp32"), "b", "cpu", progress=False)
    losses = [[r["loss"] for r in f.history() if "loss" in r] for f in (found, cpu)]
    assert losses[0] == pytest.approx(losses[1], abs=0.1)
