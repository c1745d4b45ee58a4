"""Losses against the official numbers and textbook formulas; gathering in real runs of two and three processes."""
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bike_nb.losses import LOSSES, DualSoftmaxLoss, LossError, NCELoss, all_gather, contrastive_targets, symmetric

TOLERANCE = 1e-5


def matrix(n=6, m=None, seed=0, dtype=torch.float64, scale=5.):
    return scale * torch.randn(n, m or n, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def value_and_gradient(loss, logits):
    x = logits.clone().requires_grad_()
    value = loss(x)
    return value.detach(), torch.autograd.grad(value, x)[0]


def gap(x, y):
    assert x.shape == y.shape
    return (x.double() - y.double()).abs().max().item()


# ---- the official numbers

@pytest.fixture(scope="module")
def numbers(reference):
    with np.load(reference / "losses.npz") as file: return {key: torch.from_numpy(file[key]) for key in file}


def test_official_targets(numbers):
    assert torch.equal(contrastive_targets(numbers["labels"]), numbers["targets"])


@pytest.mark.parametrize("name, kind", [("NCE", "nce"), ("DS", "dual")])
def test_official_values_and_gradients(numbers, name, kind):
    loss, logits, targets = LOSSES[name](), numbers["logits"], numbers["targets"]
    assert gap(loss(logits, targets), numbers[f"{kind}_rows"]) < TOLERANCE
    value, gradient = value_and_gradient(lambda x: symmetric(loss, x, targets), logits)
    assert gap(value, numbers[f"{kind}_symmetric"]) < TOLERANCE
    assert gap(gradient, numbers[f"{kind}_symmetric_grad"]) < TOLERANCE
    assert numbers[f"{kind}_symmetric_grad"].abs().max() > 100 * TOLERANCE


# ---- the textbook

@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_distinct_labels_and_a_sharp_target_are_info_nce(n):
    x, eye = matrix(n), contrastive_targets(torch.randperm(n, generator=torch.Generator().manual_seed(0)))
    ours, theirs = (value_and_gradient(f, x) for f in (lambda x: NCELoss(1e4)(x, eye), lambda x: F.cross_entropy(x, torch.arange(n))))
    for a, b in zip(ours, theirs): assert gap(a, b) < 1e-12
    ours, theirs = (value_and_gradient(f, x) for f in (lambda x: symmetric(NCELoss(1e4), x, eye),
                    lambda x: (F.cross_entropy(x, torch.arange(n)) + F.cross_entropy(x.t(), torch.arange(n))) / 2))
    for a, b in zip(ours, theirs): assert gap(a, b) < 1e-12


@pytest.mark.parametrize("n, m", [(6, 6), (4, 9), (9, 4), (1, 5), (5, 1)])
@pytest.mark.parametrize("sharpness", [1., 10., 30.])
def test_kl_word_for_word(n, m, sharpness):
    "Also where it is not square: torch's mean divides by rows × columns, the factor takes the rows back."
    x, t = matrix(n, m), (matrix(n, m, seed=1) > 0).double()
    p, q = x.softmax(1), (sharpness * t).softmax(1)
    want = (q * (q.log() - p.log())).mean() * n
    assert gap(NCELoss(sharpness)(x, t), want) < 1e-12
    dual = x * (x / 1000).exp() / (x / 1000).exp().sum(0) * n
    want = (q * (q.log() - dual.log_softmax(1))).mean() * n
    assert gap(DualSoftmaxLoss(sharpness)(x, t), want) < 1e-12
    want = (NCELoss(sharpness)(x, t) + NCELoss(sharpness)(x.t().contiguous(), t.t().contiguous())) / 2
    assert gap(symmetric(NCELoss(sharpness), x, t), want) < 1e-12


def test_the_gradient_in_closed_form():
    x, t = matrix(8), contrastive_targets(torch.tensor([0, 1, 2, 0, 1, 3, 3, 3])).double()
    _, gradient = value_and_gradient(lambda x: NCELoss()(x, t), x)
    assert gap(gradient, (x.softmax(1) - (10 * t).softmax(1)) / 8) < 1e-12
    _, gradient = value_and_gradient(lambda x: symmetric(NCELoss(), x, t), x)
    q = (10 * t).softmax(1)
    assert gap(gradient, (x.softmax(1) - q + x.softmax(0) - q.t()) / 16) < 1e-12


@pytest.mark.parametrize("loss", [NCELoss(), DualSoftmaxLoss(), DualSoftmaxLoss(temperature=3)], ids=repr)
def test_gradcheck(loss):
    x, t = matrix(4, 5, scale=1.).requires_grad_(), (matrix(4, 5, seed=2) > 0).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, t), (x,))
    assert torch.autograd.gradcheck(lambda x: symmetric(loss, x, t), (x,))


def test_a_perfect_batch_costs_nothing():
    t = contrastive_targets(torch.tensor([0, 0, 1, 2, 1]))
    assert abs(NCELoss()(10 * t + 3, t)) < 1e-6 and abs(symmetric(NCELoss(), 10 * t, t)) < 1e-6
    assert NCELoss()(-10 * t, t) > 5


def test_false_negatives_are_forgiven():
    "Two clips of one class: InfoNCE pushes them apart, several right answers draw them together."
    labels = torch.tensor([0, 1, 0])
    x = torch.zeros(3, 3, dtype=torch.float64)
    _, one = value_and_gradient(lambda x: NCELoss()(x, torch.eye(3)), x)
    _, many = value_and_gradient(lambda x: NCELoss()(x, contrastive_targets(labels)), x)
    assert one[0, 2] > 0 > many[0, 2] and many[0, 0] == many[0, 2]


def test_the_temperature_of_the_dual_softmax():
    x, t = matrix(6), contrastive_targets(torch.tensor([0, 1, 2, 0, 1, 3])).double()
    assert gap(DualSoftmaxLoss(temperature=1e12)(x, t), NCELoss()(x, t)) < 1e-9
    assert gap(DualSoftmaxLoss()(x, t), NCELoss()(x, t)) > 1e-4
    assert LOSSES == {"NCE": NCELoss, "DS": DualSoftmaxLoss} and DualSoftmaxLoss().temperature == 1000 and NCELoss().sharpness == 10


def test_order_of_clips_does_not_count():
    labels, order = torch.tensor([0, 1, 2, 0, 1, 3]), torch.tensor([5, 0, 3, 1, 4, 2])
    x = matrix(6)
    for loss in (NCELoss(), DualSoftmaxLoss()):
        a, b = (symmetric(loss, m, contrastive_targets(k)) for m, k in ((x, labels), (x[order][:, order], labels[order])))
        assert gap(a, b) < 1e-12


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_targets_of_any_whole_numbers(kind):
    labels = torch.tensor([0, 1, 1, 0]).to(kind)
    assert torch.equal(contrastive_targets(labels), torch.tensor([[1., 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]))
    x, t = matrix(4), contrastive_targets(labels)
    assert torch.equal(NCELoss()(x, t.bool()), NCELoss()(x, t)) and torch.equal(NCELoss()(x, t.long()), NCELoss()(x, t))


# ---- precision

@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [NCELoss(), DualSoftmaxLoss()], ids=repr)
def test_half_precision_is_computed_in_float32(loss, dtype):
    "Equal to the exact loss of the same (already rounded) numbers; computed in half it would not be."
    x, t = matrix(32, scale=20.).to(dtype), contrastive_targets(torch.arange(32) % 20)
    exact, _ = value_and_gradient(lambda x: symmetric(loss, x, t), x.double())
    value, gradient = value_and_gradient(lambda x: symmetric(loss, x, t), x)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert abs(value - exact) < 1e-5 * exact
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [NCELoss(), DualSoftmaxLoss()], ids=repr)
def test_autocast_changes_nothing(loss):
    x, t = matrix(9, dtype=torch.float32), contrastive_targets(torch.arange(9) % 4)
    plain = value_and_gradient(lambda x: symmetric(loss, x, t), x)
    with torch.autocast("cpu", torch.bfloat16): cast = value_and_gradient(lambda x: symmetric(loss, x, t), x)
    for a, b in zip(plain, cast): assert a.dtype == b.dtype == torch.float32 and torch.equal(a, b)


def test_float64_stays():
    x, t = matrix(5), contrastive_targets(torch.arange(5))
    assert symmetric(DualSoftmaxLoss(), x, t).dtype == torch.float64


def test_large_similarities():
    "float16 ends at 65504 and exp at 88: nothing may overflow."
    t = contrastive_targets(torch.arange(3))
    for x in (1e4 * t, -1e4 * t, (6e4 * t).half()): assert torch.isfinite(symmetric(NCELoss(), x, t))


def test_not_a_number_is_passed_on():
    "The training loop must see it, and stop."
    x, t = matrix(4), contrastive_targets(torch.arange(4))
    x[1, 2] = float("nan")
    assert symmetric(NCELoss(), x, t).isnan() and symmetric(DualSoftmaxLoss(), x, t).isnan()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("loss", [NCELoss(), DualSoftmaxLoss()], ids=repr)
def test_cuda(loss):
    labels = torch.arange(40) % 13
    x, t = matrix(40, dtype=torch.float32), contrastive_targets(labels)
    plain = value_and_gradient(lambda x: symmetric(loss, x, t), x)
    with torch.autocast("cuda", torch.float16):
        there = value_and_gradient(lambda x: symmetric(loss, x, contrastive_targets(labels.cuda())), x.cuda())
    for a, b in zip(plain, there): assert gap(a, b.cpu()) < 1e-5


# ---- mistakes

x, t = matrix(4), contrastive_targets(torch.arange(4))
MISTAKES = [
    (lambda: NCELoss()(x, torch.arange(4)), "`targets` must have the shape (N,M), not (4,)"),
    (lambda: NCELoss()(x[None], t), "`logits` must have the shape (N,M), not (1, 4, 4)"),
    (lambda: DualSoftmaxLoss()(x, t[:2, :2]), "`logits` are (4, 4) and `targets` (2, 2): make both from the same gathered batch"),
    (lambda: DualSoftmaxLoss()(x, t.numpy()), "`targets` must be a torch tensor of shape (N,M), not a ndarray"),
    (lambda: NCELoss()(x.long(), t), "`logits` must be floating-point similarities, not torch.int64"),
    (lambda: NCELoss()(x[:0], t[:0]), "`logits` must have the shape (N,M), not (0, 4)"),
    (lambda: NCELoss()(x, t.to("meta")), "`logits` are on cpu and `targets` on meta: move them to one device"),
    (lambda: symmetric(NCELoss(), x, t[0]), "`targets` must have the shape (N,M), not (4,)"),
    (lambda: contrastive_targets(torch.zeros(4, 3).long()), "`labels` must be a tensor of class numbers with the shape (N,), not (4, 3)"),
    (lambda: contrastive_targets(torch.zeros(0).long()), "with the shape (N,), not (0,)"),
    (lambda: contrastive_targets([1, 2]), "with the shape (N,), not list"),
    (lambda: contrastive_targets(torch.zeros(4)), "`labels` must be whole class numbers, not torch.float32"),
    (lambda: all_gather(x, "mean"), "`gradient` is \"exact\" or \"official\", not 'mean'"),
]


@pytest.mark.parametrize("call, message", MISTAKES, ids=[m[:50] for _, m in MISTAKES])
def test_mistakes_end_in_one_sentence(call, message):
    with pytest.raises(LossError) as error: call()
    assert message in str(error.value) and "\n" not in str(error.value) and isinstance(error.value, ValueError)


def test_one_process_gathers_nothing():
    for way in ("exact", "official"): assert all_gather(x, way) is x


# ---- several processes

SETUP = """
import gc, json, sys, time, datetime, torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from bike_nb.losses import LOSSES, LossError, all_gather, contrastive_targets, symmetric
torch.set_num_threads(1)
rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 60
def join(): dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world, timeout=datetime.timedelta(seconds=seconds))
def leave():
    "End the group's threads while Python still runs; a thread that outlives it aborts the process now and then (seen in 1 of 10 runs, code -6)."
    gc.collect(), dist.barrier(), dist.destroy_process_group(), gc.collect()
"""

STEP = SETUP + """
def step(rank, world, loss, gradient):
    "Gradients of every parameter after one step with this rank's share of 12 clips; a tower, what is behind the gathering, a scale."
    torch.manual_seed(3)
    tower = nn.Sequential(nn.Linear(10, 16), nn.GELU(), nn.Linear(16, 12))
    head, scale = nn.TransformerEncoderLayer(12, 2, 24, dropout=0, batch_first=True), nn.Parameter(torch.tensor(6.))
    words = nn.Linear(7, 12)                                            # a text tower, gathered as well
    clips, texts, labels = torch.randn(12, 5, 10), torch.randn(6, 7), torch.tensor([0, 1, 2, 0, 3, 1, 4, 3, 5, 5, 0, 2])
    own = slice(rank * 12 // world, (rank + 1) * 12 // world)
    parts = dict(tower=tower, words=words, head=head)
    wrapped = {k: DDP(m) if world > 1 else m for k, m in parts.items()}
    frames, classes = all_gather(wrapped["tower"](clips[own]), gradient), all_gather(wrapped["words"](texts[labels[own]]), gradient)
    labels = all_gather(labels[own], gradient)
    videos = wrapped["head"](frames).mean(1)
    logits = scale * nn.functional.normalize(videos, dim=-1) @ nn.functional.normalize(classes, dim=-1).t()
    value = symmetric(LOSSES[loss](), logits, contrastive_targets(labels))
    value.backward()
    found = {f"{k}.{n}": p.grad for k, m in parts.items() for n, p in m.named_parameters()}
    return found | {"scale": scale.grad, "loss": value.detach(), "frames": frames.detach(), "labels": labels}

if world > 1: join()
torch.save({f"{loss}/{way}": step(rank, world, loss, way) for loss in LOSSES for way in ("exact", "official")}, f"{folder}/{world}-{rank}.pt")
if world > 1: leave()
"""

FAULTS = SETUP + """
join()
fault = sys.argv[5]
try:
    if fault == "raises" and rank == 1: raise RuntimeError("the disk of rank 1 is full")
    if fault == "sleeps" and rank == 1: time.sleep(600)
    size = (3, 2) if fault == "shape" and rank == 1 else (2, 2)
    x = torch.ones(*size, requires_grad=True)
    y = all_gather(x)
    if fault == "backward" and rank == 1: raise RuntimeError("rank 1 failed between the passes")
    y.sum().backward()
except Exception as error:
    print(json.dumps([type(error).__name__, " ".join(str(error).split())]), flush=True)
    import os
    os._exit(1)
"""

KINDS = SETUP + """
join()
found = {}
for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8):
    x = (torch.arange(12).view(2, 3, 2) + 10 * rank).to(dtype)
    if dtype.is_floating_point: x.requires_grad_()
    y = all_gather(x)
    want = torch.cat([(torch.arange(12).view(2, 3, 2) + 10 * r).to(dtype) for r in range(world)])
    assert torch.equal(y.detach(), want) and y.dtype == dtype, (dtype, y)
    if dtype.is_floating_point:
        (y * torch.arange(1, 2 * world + 1)[:, None, None]).sum().backward()
        rows = world * torch.arange(2 * rank + 1, 2 * rank + 3)
        assert torch.equal(x.grad, rows[:, None, None].expand(2, 3, 2).to(dtype)), (dtype, x.grad)
odd = torch.arange(12.).view(3, 4).t()[::2] + rank                        # not contiguous, neither here nor in its gradient
odd.requires_grad_()
y = all_gather(odd)
assert torch.equal(y.detach(), torch.cat([torch.arange(12.).view(3, 4).t()[::2] + r for r in range(world)]))
y.t().expand(2, -1, -1).sum().backward()
assert torch.equal(odd.grad, torch.full((2, 3), 2. * world))
with torch.no_grad(): assert not all_gather(odd).requires_grad
pair = dist.new_group(list(range(2)))
if rank < 2: assert all_gather(torch.tensor([rank]), group=pair).tolist() == [0, 1]
x = torch.ones(1, requires_grad=True)                                      # every rank has a loss of its own: its gradients add up
(all_gather(x) * (rank + 1)).sum().backward()
assert x.grad.item() == sum(range(1, world + 1))
print(json.dumps("done"), flush=True)
leave()
"""


def run(script, world, folder, *more, timeout=100):
    "Run `script` in `world` processes; their exit codes, what they printed as JSON, and the seconds it took. Kills what hangs."
    path = folder / "script.py"
    path.write_text(script)
    start, env = time.time(), os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([sys.executable, str(path), str(r), str(world), str(folder), *map(str, more)], env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for r in range(world)]
    try: told = [p.communicate(timeout=max(1, timeout - (time.time() - start))) for p in ranks]
    finally:
        for p in ranks:
            if p.poll() is None: p.kill(), p.communicate()
    said = [json.loads(out.splitlines()[-1]) if out.strip() else err[-2000:] for out, err in told]
    return [p.returncode for p in ranks], said, time.time() - start


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    codes, said, _ = run(STEP, 1, folder)
    assert codes == [0], said
    return torch.load(folder / "1-0.pt", weights_only=True)


@pytest.fixture(scope="module", params=[2, 3], ids=lambda w: f"{w} processes")
def together(request, tmp_path_factory):
    "The number of processes, and what each of them found."
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    codes, said, _ = run(STEP, request.param, folder)
    assert codes == [0] * request.param, said
    return request.param, [torch.load(folder / f"{request.param}-{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.mark.parametrize("loss", list(LOSSES))
def test_exact_gathering_gives_the_gradient_of_one_process(alone, together, loss):
    world, ranks = together
    want = alone[f"{loss}/exact"]
    assert all(v.abs().max() > 1e-4 for k, v in want.items() if k.split(".")[0] in ("tower", "words"))
    for found in ranks:
        found = found[f"{loss}/exact"]
        assert found.keys() == want.keys() and torch.equal(found["labels"], want["labels"])
        for key, value in want.items(): assert gap(found[key], value) < 1e-6, key


@pytest.mark.parametrize("loss", list(LOSSES))
def test_official_gathering_gives_the_towers_a_share_of_it(alone, together, loss):
    "1/world for what lies before the gathering, all of it for what lies behind."
    world, ranks = together
    want = alone[f"{loss}/official"]
    for found in ranks:
        found = found[f"{loss}/official"]
        for key, value in want.items():
            share = 1 / world if key.split(".")[0] in ("tower", "words") else 1
            assert gap(found[key], value * share if share < 1 else value) < 1e-6, key


@pytest.mark.parametrize("world", [2, 3])
def test_kinds_of_tensors(world, tmp_path):
    codes, said, _ = run(KINDS, world, tmp_path)
    assert codes == [0] * world, said


def test_different_shapes_are_named_on_every_rank(tmp_path):
    codes, said, _ = run(FAULTS, 2, tmp_path, 60, "shape")
    assert codes == [1, 1]
    for name, message in said:
        assert name == "LossError" and "rank 0 (2, 2), rank 1 (3, 2)" in message and "same number of clips" in message


@pytest.mark.parametrize("fault", ["raises", "backward"])
def test_a_rank_that_fails_ends_the_others(tmp_path, fault):
    "With its own error, and long before the timeout of the group."
    codes, said, seconds = run(FAULTS, 3, tmp_path, 600, fault)
    assert codes == [1, 1, 1] and seconds < 60
    assert said[1][0] == "RuntimeError" and "rank 1" in said[1][1]


def test_a_rank_that_sleeps_is_not_waited_for(tmp_path):
    "The group's timeout ends the wait of the others; here rank 1 is then stopped, as torchrun would."
    path = tmp_path / "script.py"
    path.write_text(FAULTS)
    ranks = [subprocess.Popen([sys.executable, str(path), str(r), "2", str(tmp_path), "4", "sleeps"], stdout=subprocess.PIPE, text=True) for r in (0, 1)]
    try:
        out, _ = ranks[0].communicate(timeout=50)
        assert ranks[0].returncode == 1 and "time" in json.loads(out.splitlines()[-1])[1].lower() and ranks[1].poll() is None
    finally:
        for p in ranks: p.kill(), p.communicate()
