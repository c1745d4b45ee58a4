"Typical wrong answers to the exercises of chapter 5, and what the check should say."
import numpy as np


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)

def own(p): return -np.log(np.diagonal(p))

def overflows(x):
    with np.errstate(all="ignore"): return own(np.exp(x) / np.exp(x).sum(1, keepdims=True)).mean()

def same(labels): return (labels[:, None] == labels).astype(float)


WRONG = [
    ("5.1", lambda x: own(softmax(x, 0)).mean(), "down the columns"),
    ("5.1", lambda x: own(softmax(x, 1)).sum(), "take the mean"),
    ("5.1", lambda x: own(softmax(x, 1)), "losses of the single rows"),
    ("5.1", overflows, "np.exp overflows"),
    ("5.1", lambda x: x - nothing, "Your function stops"),
    ("5.2", 0, "two columns are equal"),
    ("5.2", 0.5, "probability of the diagonal"),
    ("5.2", 1, "In which base"),
    ("5.2", .8, "the diagonal gets one half"),
    ("5.2", [.7, .7], "one number"),
    ("5.3", lambda l: same(l) / same(l).sum(1, keepdims=True), "leaves them a little"),
    ("5.3", lambda l: softmax(same(l), 1), "factor 10 is missing"),
    ("5.3", lambda l: softmax(10 * same(l), 0), "down the columns"),
    ("5.3", lambda l: softmax(10 * np.eye(len(l)), 1), "diagonal only"),
    ("5.4", lambda x, t=1000: x * softmax(x / t, 1) * len(x), "along the rows"),
    ("5.4", lambda x, t=1000: x * softmax(x / t, 0), "factor N is missing"),
    ("5.4", lambda x, t=1000: x * softmax(x * t, 0) * len(x), "divide by it"),
    ("5.5", lambda n, s: np.log(1 + (n - 1) * np.exp(-s)), "it is not 1 but 2"),
    ("5.5", lambda n, s: np.log(1 + n * np.exp(-2 * s)), "one of them is the right one"),
    ("5.5", lambda n, s: 1 / (1 + (n - 1) * np.exp(-2 * s)), "minus its logarithm"),
    ("5.6", lambda l, r, n: same(l)[r * n:(r + 1) * n, r * n:(r + 1) * n], "its own columns only"),
    ("5.6", lambda l, r, n: same(l)[:n], "always take the first n rows"),
    ("5.6", lambda l, r, n: np.eye(len(l))[r * n:(r + 1) * n], "diagonal only"),
]
