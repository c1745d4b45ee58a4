"Concept spotting against the textbook formula: values, gradients, kinds of input, errors, memory."
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import normalize

from bike_nb import spotting
from bike_nb.spotting import concept_spotting, mean_pooling, saliency, token_saliency

# sizes that leave the pieces uneven: several groups of classes, several groups of videos
LARGE = dict(A=15, B=40, T=32, L=77, D=16)
SMALL = dict(A=5, B=3, T=7, L=9, D=12)


def textbook_saliency(tokens, frames, temperature=0.01, mask=None):
    "The formula word for word."
    w, f = normalize(tokens, dim=-1), normalize(frames, dim=-1)
    P = (torch.einsum("ajd,btd->abjt", w, f) / temperature).softmax(-1)
    if mask is None: return P.mean(2)
    return torch.stack([P[a, :, mask[a]].mean(1) for a in range(len(P))])


def textbook(frames, tokens, classes, temperature=0.01, mask=None):
    S = textbook_saliency(tokens, frames, temperature, mask)
    pooled = torch.einsum("abt,btd->abd", S, normalize(frames, dim=-1))
    return torch.einsum("abd,ad->ba", pooled, normalize(classes, dim=-1))


def inputs(A, B, T, L, D, dtype=torch.float64, seed=0, grad=False):
    "Frames, tokens and classes; the frames of a video resemble each other, as real ones do."
    g = torch.Generator().manual_seed(seed)
    frames = torch.randn(B, 1, D, generator=g, dtype=torch.float64) * 3 + torch.randn(B, T, D, generator=g, dtype=torch.float64)
    tokens, classes = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((A, L, D), (A, D)))
    return [x.to(dtype).requires_grad_(grad) for x in (frames, tokens, classes)]


def ragged_mask(A, L, seed=1):
    "A mask with one voter in some classes, all in others, and holes."
    mask = torch.rand(A, L, generator=torch.Generator().manual_seed(seed)) < torch.linspace(0, 1, A)[:, None]
    mask[torch.arange(A), torch.arange(A) % L] = True
    mask[-1] = True
    return mask


def relative(x, y): return ((x - y).abs().max() / y.abs().max()).item()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [SMALL, LARGE, dict(SMALL, T=1), dict(SMALL, B=1), dict(SMALL, A=1), dict(SMALL, L=1), dict(A=1, B=1, T=1, L=1, D=1),
                                  dict(A=3, B=2, T=5000, L=77, D=4), dict(A=700, B=2, T=3, L=5, D=600)],
                         ids=lambda s: "-".join(f"{k}{v}" for k, v in s.items()))
def test_values(size, masked):
    f, w, c = inputs(**size)
    mask = ragged_mask(size["A"], size["L"]) if masked else None
    S = saliency(w, f, mask=mask)
    assert S.shape == (size["A"], size["B"], size["T"]) and S.dtype == torch.float64 and S.is_contiguous()
    assert (S - textbook_saliency(w, f, mask=mask)).abs().max() < 1e-12
    assert (S.sum(-1) - 1).abs().max() < 1e-12
    logits = concept_spotting(f, w, c, mask=mask)
    assert logits.shape == (size["B"], size["A"])
    assert (logits - textbook(f, w, c, mask=mask)).abs().max() < 1e-12


def test_long_videos_and_many_classes_meet_in_pieces():
    "So many frames that the score itself is computed a few classes at a time."
    f, w, c = inputs(A=40, B=2, T=70_000, L=2, D=4)
    assert (concept_spotting(f, w, c) - textbook(f, w, c)).abs().max() < 1e-12
    mask = ragged_mask(40, 2)
    assert (concept_spotting(f, w, c, mask=mask) - textbook(f, w, c, mask=mask)).abs().max() < 1e-12


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size, temperature", [(SMALL, 0.01), (SMALL, 0.07), (SMALL, 1.0), (LARGE, 0.01), (dict(SMALL, B=1), 0.01), (dict(SMALL, A=1), 0.01)],
                         ids=["small", "small, 0.07", "small, 1", "large", "one video", "one class"])
def test_gradients(size, temperature, masked):
    given = inputs(**size, grad=True)
    mask = ragged_mask(size["A"], size["L"]) if masked else None
    ask = torch.randn(size["B"], size["A"], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours, theirs = (torch.autograd.grad((fn(*given, temperature, mask) * ask).sum(), given) for fn in (concept_spotting, textbook))
    for x, y in zip(ours, theirs): assert relative(x, y) < 1e-10


@pytest.mark.parametrize("masked", [False, True])
def test_gradients_of_saliency(masked):
    f, w, _ = inputs(**SMALL, grad=True)
    mask = ragged_mask(SMALL["A"], SMALL["L"]) if masked else None
    ask = torch.randn(SMALL["A"], SMALL["B"], SMALL["T"], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours, theirs = (torch.autograd.grad((fn(w, f, 0.05, mask) * ask).sum(), (w, f)) for fn in (saliency, textbook_saliency))
    for x, y in zip(ours, theirs): assert relative(x, y) < 1e-10


@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck(masked):
    f, w, c = inputs(A=3, B=2, T=4, L=5, D=6, grad=True)
    mask = ragged_mask(3, 5) if masked else None
    assert torch.autograd.gradcheck(lambda f, w, c: concept_spotting(f, w, c, 0.3, mask), (f, w, c))
    assert torch.autograd.gradcheck(mean_pooling, (f, c))


def test_gradients_with_one_frame_are_those_of_a_cosine():
    "With one frame the saliency is 1 whatever the tokens say: they get no gradient, frames and classes that of the cosine."
    given = inputs(**dict(SMALL, T=1), grad=True)
    concept_spotting(*given).sum().backward()
    assert given[1].grad.abs().max() < 1e-12
    again = [x.detach().requires_grad_() for x in given]
    mean_pooling(again[0], again[2]).sum().backward()
    for i in (0, 2): assert relative(given[i].grad, again[i].grad) < 1e-10


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_frozen_inputs_get_no_gradient(wanted):
    given, reference = inputs(**SMALL), inputs(**SMALL, grad=True)
    for i in wanted: given[i].requires_grad_()
    concept_spotting(*given).square().sum().backward()
    textbook(*reference).square().sum().backward()
    for i in range(3):
        if i in wanted: assert relative(given[i].grad, reference[i].grad) < 1e-10
        else: assert given[i].grad is None


def test_backward_keeps_no_attentions():
    "What the graph keeps between the passes is of the size of the inputs and the saliency, not of tokens × frames."
    f, w, c = inputs(**LARGE, grad=True)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(x.data_ptr(), x) is None or x, lambda x: x):
        concept_spotting(f, w, c)
    A, B, T, L, D = LARGE.values()
    assert max(x.numel() for x in kept.values()) <= max(A * L * D, B * T * D, A * B * T) < A * B * T * L / 10


def test_second_derivatives_are_refused_not_wrong():
    f, w, c = inputs(**SMALL, grad=True)
    grad, = torch.autograd.grad(saliency(w, f).square().sum(), w, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"): grad.sum().backward()


def test_inputs_in_any_memory_layout():
    f, w, c = inputs(**SMALL)
    odd = [f.transpose(0, 1).contiguous().transpose(0, 1), w.permute(2, 0, 1).contiguous().permute(1, 2, 0), torch.stack([c, c], -1)[..., 0]]
    assert not any(x.is_contiguous() for x in odd)
    for x in odd: x.requires_grad_()
    mask = ragged_mask(SMALL["A"], SMALL["L"]).t().contiguous().t()
    plain = [x.clone().requires_grad_() for x in (f, w, c)]
    ours, theirs = concept_spotting(*odd, mask=mask), textbook(*plain, mask=mask)
    assert relative(ours, theirs) < 1e-12
    ours.square().sum().backward(), theirs.square().sum().backward()
    for x, y in zip(odd, plain): assert relative(x.grad, y.grad) < 1e-10


def test_one_token_matrix_expanded_to_all_classes():
    f, w, c = inputs(**SMALL, grad=True)
    many = w[:1].expand(5, -1, -1)
    ours, theirs = (torch.autograd.grad(fn(f, many, c).square().sum(), w)[0] for fn in (concept_spotting, textbook))
    assert relative(ours, theirs) < 1e-10


def test_the_inputs_stay_as_they_are():
    given = inputs(**SMALL, grad=True)
    before = [x.detach().clone() for x in given]
    concept_spotting(*given, mask=ragged_mask(5, 9)).sum().backward()
    for x, y in zip(given, before): assert torch.equal(x, y)


def test_bfloat16_is_multiplied_only_where_that_is_quick(monkeypatch):
    "Without instructions for it, a CPU is many times slower in bfloat16 than in float32."
    half, cuda = torch.ones(1, dtype=torch.bfloat16), torch.ones(1, dtype=torch.bfloat16, device="meta")
    for pays, product in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: pays)
        assert spotting._dtypes(half, half) == (torch.float32, product) and spotting._dtypes(cuda, cuda) == (torch.float32, torch.bfloat16)
        assert spotting._dtypes(half, half.float()) == (torch.float32, torch.float32)
        f, w, c = (torch.randn(*s, generator=torch.Generator().manual_seed(1)).bfloat16() for s in ((2, 5, 16), (3, 7, 16), (3, 16)))
        assert (concept_spotting(f, w, c) - textbook(f.double(), w.double(), c.double())).abs().max() < (1e-6 if not pays else .05)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_precisions(dtype, masked):
    "Against the exact result for the same (already rounded) inputs; bfloat16 against the textbook computed in it, too."
    given = inputs(**LARGE, dtype=dtype, grad=True)
    mask = ragged_mask(LARGE["A"], LARGE["L"]) if masked else None
    exact = [x.detach().double().requires_grad_() for x in given]
    ours, theirs = concept_spotting(*given, mask=mask), textbook(*exact, mask=mask)
    S = saliency(given[1], given[0], mask=mask)
    assert ours.dtype == S.dtype == torch.float32 and (S.sum(-1) - 1).abs().max() < 1e-5
    if dtype == torch.bfloat16:
        plain = (textbook(*given, mask=mask) - theirs).abs()
        error = (ours - theirs).abs()
        assert error.mean() < 1e-3 and error.mean() < plain.mean() / 3 and error.max() < plain.max()
    else: assert (ours - theirs).abs().max() < 1e-6
    ours.square().sum().backward(), theirs.square().sum().backward()
    limit = {torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 1e-3}[dtype]
    for x, y in zip(given, exact):
        assert x.grad.dtype == dtype and (x.grad.double() - y.grad).norm() / y.grad.norm() < limit


def test_mixed_precisions_use_the_finer_one():
    f, w, c = inputs(**SMALL)
    mixed = concept_spotting(f.bfloat16(), w.bfloat16(), c.float())
    assert (mixed - textbook(f.bfloat16().double(), w.bfloat16().double(), c.float().double())).abs().max() < 1e-6
    assert concept_spotting(f.float(), w, c).dtype == torch.float64
    assert mean_pooling(f.bfloat16(), c.half()).dtype == torch.float32


def test_autocast_changes_nothing():
    given = inputs(**SMALL, dtype=torch.float32, grad=True)
    plain = concept_spotting(*given), mean_pooling(given[0], given[2]), token_saliency(given[1], given[0])
    with torch.autocast("cpu", torch.bfloat16):
        cast = concept_spotting(*given), mean_pooling(given[0], given[2]), token_saliency(given[1], given[0])
    grads = torch.autograd.grad(cast[0].square().sum(), given)
    for x, y in zip(plain, cast): assert x.dtype == y.dtype and torch.equal(x, y)
    for x, y in zip(grads, torch.autograd.grad(plain[0].square().sum(), given)): assert torch.equal(x, y)


def test_inference_mode_and_no_grad():
    given = inputs(**SMALL, grad=True)
    want = concept_spotting(*given)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            got = concept_spotting(*given)
            assert not got.requires_grad and torch.equal(got, want)
            inside = inputs(**SMALL)
            assert torch.equal(concept_spotting(*inside), want)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_extreme_temperatures(dtype):
    f, w, c = inputs(**SMALL, dtype=dtype)
    P = token_saliency(w, f)
    winners = (normalize(w, dim=-1)[:, None] @ normalize(f, dim=-1)[None].mT).argmax(-1)
    cold = torch.nn.functional.one_hot(winners, SMALL["T"]).to(dtype).mean(2)
    assert (saliency(w, f, 1e-9) - cold).abs().max() < 1e-5
    assert (saliency(w, f, 1e9) - 1 / SMALL["T"]).abs().max() < 1e-5
    assert P.isfinite().all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_cosines_near_one_and_minus_one(sign, dtype):
    "All cosines at one end: exp(±100) would overflow or vanish if it were taken without a shift."
    g = torch.Generator().manual_seed(0)
    centre = torch.randn(1, 1, 16, generator=g, dtype=torch.float64) * 10
    f, w = centre + 0.1 * torch.randn(3, 6, 16, generator=g, dtype=torch.float64), sign * centre + 0.1 * torch.randn(4, 5, 16, generator=g, dtype=torch.float64)
    f, w = f.to(dtype), w.to(dtype)
    S = saliency(w, f)
    assert S.isfinite().all() and (S.sum(-1) - 1).abs().max() < 1e-5
    assert (S - textbook_saliency(w.double(), f.double())).abs().max() < {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-3}[dtype]


def test_only_directions_count():
    f, w, c = inputs(**SMALL)
    want = concept_spotting(f, w, c)
    assert (concept_spotting(f * 1e6, w * 1e-6, c * 100) - want).abs().max() < 1e-12


def test_zero_vectors_give_finite_numbers():
    f, w, c = inputs(**SMALL, dtype=torch.float32)
    f[0, 2], w[1, 3] = 0, 0
    assert (concept_spotting(f, w, c) - textbook(f, w, c)).abs().max() < 1e-6


def test_masked_positions_cannot_be_felt():
    "Even NaN behind the mask (a tower may leave anything there) changes neither values nor gradients."
    mask = ragged_mask(SMALL["A"], SMALL["L"])
    clean, dirty = inputs(**SMALL, grad=True), inputs(**SMALL)
    dirty[1][~mask] = float("nan")
    for x in dirty: x.requires_grad_()
    a, b = concept_spotting(*clean, mask=mask), concept_spotting(*dirty, mask=mask)
    assert torch.equal(a, b)
    a.square().sum().backward(), b.square().sum().backward()
    for x, y in zip(clean, dirty): assert torch.equal(x.grad, y.grad)
    assert (dirty[1].grad[~mask] == 0).all() and (dirty[1].grad[mask] != 0).any()


def test_a_full_mask_is_no_mask():
    f, w, c = inputs(**SMALL)
    full = torch.ones(w.shape[:2], dtype=torch.bool)
    assert (concept_spotting(f, w, c, mask=full) - concept_spotting(f, w, c)).abs().max() < 1e-14


def test_order_of_frames_and_classes_is_carried_along():
    f, w, c = inputs(**SMALL)
    order, classes = torch.randperm(7, generator=torch.Generator().manual_seed(0)), torch.tensor([4, 2, 0, 1, 3])
    assert (saliency(w[classes], f[:, order]) - saliency(w, f)[classes][..., order]).abs().max() < 1e-12


def test_token_saliency():
    f, w, _ = inputs(**SMALL, grad=True)
    P = token_saliency(w, f)
    assert P.shape == (5, 3, 9, 7) and (P.sum(-1) - 1).abs().max() < 1e-12
    assert (P.mean(2) - saliency(w, f)).abs().max() < 1e-12
    ours, theirs = (torch.autograd.grad(S.square().sum(), (w, f)) for S in (P.mean(2), textbook_saliency(w, f)))
    for x, y in zip(ours, theirs): assert relative(x, y) < 1e-10


def test_mean_pooling():
    f, _, c = inputs(**SMALL)
    want = torch.stack([torch.stack([torch.cosine_similarity(v.mean(0), k, dim=0) for k in c]) for v in f])
    assert (mean_pooling(f, c) - want).abs().max() < 1e-12


f, w, c = inputs(**SMALL)
NO_VOTER = torch.ones(5, 9, dtype=torch.bool)
NO_VOTER[3] = False
MISTAKES = [
    (lambda: concept_spotting(f[0], w, c), "`frames` must have the shape (B,T,D), not (7, 12); for a single one, pass `frames[None]`"),
    (lambda: concept_spotting(w, f, c), "`tokens` are of 3 classes and `classes` of 5"),
    (lambda: saliency(w[0], f), "`tokens` must have the shape (A,L,D), not (9, 12)"),
    (lambda: mean_pooling(f, w), "`classes` must have the shape (A,D), not (5, 9, 12)"),
    (lambda: saliency(w[..., :8], f), "take both from the same encoder"),
    (lambda: concept_spotting(f, w, c[:, :8]), "take both from the same encoder"),
    (lambda: mean_pooling(f[..., :8], c), "take both from the same encoder"),
    (lambda: token_saliency(w, f[..., :8]), "take both from the same encoder"),
    (lambda: concept_spotting(f, w, c[:4]), "`tokens` are of 5 classes and `classes` of 4"),
    (lambda: saliency(w, f[:, :0]), "`frames` is empty"),
    (lambda: saliency(w[:0], f), "`tokens` is empty"),
    (lambda: saliency(w.numpy(), f), "`tokens` must be a torch tensor of shape (A,L,D), not a ndarray"),
    (lambda: saliency(w, f.long()), "`frames` must hold floating-point embeddings, not torch.int64"),
    (lambda: saliency(w, f, 0), "`temperature` must be a number above 0"),
    (lambda: concept_spotting(f, w, c, -0.01), "`temperature` must be a number above 0"),
    (lambda: token_saliency(w, f, float("nan")), "`temperature` must be a number above 0"),
    (lambda: saliency(w, f, None), "`temperature` must be a number above 0"),
    (lambda: saliency(w, f, mask=NO_VOTER), "`mask` leaves no token to class 3"),
    (lambda: concept_spotting(f, w, c, mask=NO_VOTER), "`mask` leaves no token to class 3"),
    (lambda: saliency(w, f, mask=NO_VOTER.float()), "`mask` must be a bool tensor, not torch.float32"),
    (lambda: saliency(w, f, mask=NO_VOTER.tolist()), "`mask` must be a bool tensor, not list"),
    (lambda: saliency(w, f, mask=NO_VOTER[:, :8]), "`mask` must have the shape (A,L) = (5, 9), not (5, 8)"),
]


@pytest.mark.parametrize("call, message", MISTAKES, ids=[m[:50] for _, m in MISTAKES])
def test_mistakes_end_in_one_sentence(call, message):
    with pytest.raises(ValueError) as error: call()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_tensors_on_two_devices():
    with pytest.raises(ValueError, match="move them to one device"): saliency(w, f.to("meta"))
    with pytest.raises(ValueError, match="move them to one device"): saliency(w, f, mask=torch.ones(5, 9, dtype=torch.bool, device="meta"))


PEAK = """
import sys, torch
from bike_nb.spotting import concept_spotting
torch.set_num_threads(1)
dtype, backward, mask = getattr(torch, sys.argv[1]), sys.argv[2] == "backward", sys.argv[3] == "words"
def peak(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1e3
def run(A, B):
    f, w, c = (torch.empty(s, dtype=dtype).normal_() for s in ((B, 32, 512), (A, 77, 512), (A, 512)))
    words = (torch.arange(77).repeat(A, 1) // 3 == 1) if mask else None
    f.requires_grad_(backward)
    before = peak()
    out = concept_spotting(f, w, c, mask=words)
    if backward: out.sum().backward()
    return peak() - before
run(20, 2)
print(run(int(sys.argv[4]), 64))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of the resident memory from /proc")
@pytest.mark.parametrize("dtype, way, mask, classes, limit", [("float32", "forward", "all", 400, 32), ("float32", "forward", "words", 400, 32),
                                                              ("bfloat16", "forward", "all", 100, 32), ("float32", "backward", "all", 100, 64)])
def test_memory_is_bounded(dtype, way, mask, classes, limit):
    "Up to 400 classes × 64 videos × 32 frames × 77 tokens, width 512, in a process of its own; the cosines of 400 classes alone are 252 MB."
    done = subprocess.run([sys.executable, "-c", PEAK, dtype, way, mask, str(classes)], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < limit, f"{float(done.stdout):.0f} MB"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_cuda(dtype):
    given = inputs(**LARGE, dtype=dtype)
    mask = ragged_mask(LARGE["A"], LARGE["L"])
    on_gpu = [x.cuda().requires_grad_() for x in given]
    exact = [x.double().requires_grad_() for x in given]
    ours, theirs = concept_spotting(*on_gpu, mask=mask.cuda()), textbook(*exact, mask=mask)
    assert ours.device.type == "cuda"
    close = {torch.float64: 1e-10, torch.bfloat16: 2e-3}.get(dtype, 1e-4)
    assert (ours.cpu() - theirs).abs().max() < close
    ours.square().sum().backward(), theirs.square().sum().backward()
    for x, y in zip(on_gpu, exact): assert relative(x.grad.cpu().double(), y.grad) < max(0.05 * (dtype == torch.bfloat16), 10 * close)
