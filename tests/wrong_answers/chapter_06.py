"Typical wrong answers to the exercises of chapter 6, and what each is told."
import numpy as np
import torch


def groups(named, lr, ratio, frozen=False):
    named = [(n, p) for n, p in named if p.requires_grad or frozen]
    clip, head = ([p for n, p in named if n.startswith("clip.") == c] for c in (True, False))
    return [{"params": clip, "lr": lr * ratio}, {"params": head, "lr": lr}]

def cosine(x): return (1 + np.cos(np.pi * x)) / 2
def no_zero(t, warm, total): return t / warm if t <= warm else cosine((t - warm) / (total - warm))

def pack(model, optimizer, step): return dict(m=model.state_dict(), o=optimizer.state_dict(), lot=torch.get_rng_state(), step=step)
def weights(s, model, optimizer): model.load_state_dict(s["m"]); return s["step"]
def no_optimizer(s, model, optimizer): model.load_state_dict(s["m"]); torch.set_rng_state(s["lot"]); return s["step"]
def no_lot(s, model, optimizer): model.load_state_dict(s["m"]); optimizer.load_state_dict(s["o"]); return s["step"]
def unpack(s, model, optimizer): torch.set_rng_state(s["lot"]); return no_lot(s, model, optimizer)
def silent(s, model, optimizer): unpack(s, model, optimizer)


WRONG = [
    ("6.1", lambda n, lr, r: groups(n, lr, r, frozen=True), "A frozen weight"),
    ("6.1", lambda n, lr, r: groups(n, lr, 1), "The ratio is not used".lower()),
    ("6.1", lambda n, lr, r: [{"params": p, "lr": lr} for _, p in n if p.requires_grad], "the ratio is not used"),
    ("6.1", lambda n, lr, r: groups(n, lr * r, 1 / r), "exchanged"),
    ("6.1", lambda n, lr, r: groups(n, lr, 1 / r), "You divide by the ratio"),
    ("6.1", lambda n, lr, r: groups(n, lr, r / lr), "multiply it by lr"),
    ("6.1", lambda n, lr, r: groups(n, lr, r)[:1], "is in no group"),
    ("6.1", lambda n, lr, r: [{"params": list(n), "lr": lr}], "without their names"),
    ("6.1", lambda n, lr, r: lr * r, "a list of dictionaries"),
    ("6.2", lambda t, warm, total: cosine(t / total), "There is no warm-up"),
    ("6.2", lambda t, warm, total: t / warm if t < warm else cosine(t / total), "Count from `warm`"),
    ("6.2", lambda t, warm, total: t / warm if t < warm else cosine((t - warm) / total), "does not reach 0"),
    ("6.2", lambda t, warm, total: t / warm if t < warm else np.cos(np.pi * (t - warm) / (total - warm)), "must not be negative"),
    ("6.2", lambda t, warm, total: min(1, t / warm), "stays at 1"),
    ("6.2", no_zero, "only where x < warm, not <="),
    ("6.3", lambda g, parts: sum(map(g, parts)), "it must be a mean"),
    ("6.3", lambda g, parts: np.mean([g(p) for p in parts], 0), "Weight each part by its clips"),
    ("6.3", lambda g, parts: sum(len(p) * g(p) for p in parts), "do not divide"),
    ("6.3", lambda g, parts: [g(p) for p in parts][-1], "Only the last part"),
    ("6.3", lambda g, parts: g(np.concatenate(parts)), "Take them one by one"),
    ("6.3", lambda g, parts: g(parts[0][0]), "takes one part"),
    ("6.4", 2, "That is the exact sum"),
    ("6.4", 1.0078, "where this one ended"),
    ("6.4", 0, "not below 1"),
    ("6.4", "one", "should be numbers"),
    ("6.5", (pack, weights), "and nothing else"),
    ("6.5", (pack, no_optimizer), "has forgotten its averages"),
    ("6.5", (pack, no_lot), "other clips are drawn"),
    ("6.5", (pack, silent), "unpack returns nothing"),
    ("6.5", (pack, lambda *a: unpack(*a) + 1), "after step 3"),
    ("6.5", (lambda m, o, step: dict(model=m), unpack), "more than tensors and numbers"),
    ("6.5", pack, "Give both functions"),
]
