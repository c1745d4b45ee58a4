"Typical wrong answers to the exercises of chapter 2, and a piece of what the learner must hear."
import numpy as np


def unit(x, axis=-1): return x / np.linalg.norm(x, axis=axis, keepdims=True)

def softmax(x, axis=-1):
    e = np.exp(x)
    return e / e.sum(axis, keepdims=True)

def steps(x): return (x[1:] * x[:-1]).sum(1)

def normalized_in_place(f, c):
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    return unit(f.mean(0)) @ unit(c).T

WRONG = [
    ("2.1", lambda f, c: f @ c.T, "plain dot product"),
    ("2.1", lambda f, c: unit(f) @ c.T, "the phrases do not yet"),
    ("2.1", lambda f, c: f @ unit(c).T, "the frames do not yet"),
    ("2.1", lambda f, c: unit(c) @ unit(f).T, "axes are exchanged"),
    ("2.1", lambda f, c: unit(f, 0) @ unit(c, 0).T, "down the columns"),
    ("2.1", lambda f, c: f @ c, "Your function stops"),
    ("2.2", lambda s, t: softmax(s / t, 0), "over the frames"),
    ("2.2", lambda s, t: softmax(s * t), "You multiply"),
    ("2.2", lambda s, t: softmax(s), "no effect"),
    ("2.2", lambda s, t: np.exp(s / t) / np.exp(s / t).sum(), "All frames share a single one"),
    ("2.2", lambda s, t: s / s.sum(-1, keepdims=True), "exponential is missing"),
    ("2.2", lambda s, t: softmax(s / t), "its own largest cosine"),
    ("2.2", lambda s, t: softmax((s - s.max()) / t), "all of a row become zero"),
    ("2.3", "A", "1/14"),
    ("2.3", "b", "It is more"),
    ("2.3", 0.5, "one of the letters"),
    ("2.4", lambda f, level: np.flatnonzero(steps(unit(f)) < level), "One too early"),
    ("2.4", lambda f, level: np.flatnonzero(steps(f) < level) + 1, "compare dot products"),
    ("2.4", lambda f, level: np.flatnonzero(steps(unit(f)) > level) + 1, "go on as before"),
    ("2.4", lambda f, level: np.flatnonzero(unit(f) @ unit(f)[0] < level), "with the first one"),
    ("2.4", lambda f, level: steps(unit(f)) < level, "a yes or no"),
    ("2.5", lambda f, c: (unit(f) @ unit(c).T).mean(0), "mean of the cosines"),
    ("2.5", lambda f, c: unit(unit(f).mean(0)) @ unit(c).T, "the length one before you average"),
    ("2.5", normalized_in_place, "the length one before you average"),
    ("2.5", lambda f, c: f.mean(0) @ unit(c).T, "normalize it after averaging"),
    ("2.5", lambda f, c: (unit(f) @ unit(c).T).max(0), "the best frame"),
    ("2.5", lambda f, c: unit(f.mean(1)) @ unit(c).T, "Your function stops"),
]
