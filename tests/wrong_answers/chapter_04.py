"Typical wrong answers to the exercises of chapter 4, and what each is told."
import numpy as np


def unit(x): return x / np.linalg.norm(x, axis=-1, keepdims=True)
def precision(w, y): return y[np.argsort(-w)].cumsum() / np.arange(1, len(y) + 1)
def common(a, b): return min(a[1], b[1]) - max(a[0], b[0])
def length(a): return a[1] - a[0]


WRONG = [
    ("4.1", lambda P, m: P.mean(0), "The mask makes no difference"),
    ("4.1", lambda P, m: (P * m[:, None]).mean(0), "divide by the number of those who vote"),
    ("4.1", lambda P, m: P[m].sum(0), "take the mean"),
    ("4.1", lambda P, m: P[m].mean(1), "You average over the frames"),
    ("4.1", lambda P, m: P[m].mean(), "a weight for each frame"),
    ("4.2", lambda S, f, c: unit(S @ unit(f)) @ unit(c), "to length 1 again"),
    ("4.2", lambda S, f, c: S @ f @ unit(c), "a long vector counts more"),
    ("4.2", lambda S, f, c: unit(S @ f) @ unit(c), "the other way round"),
    ("4.2", lambda S, f, c: unit(f).mean(0) @ unit(c), "The weights are not used"),
    ("4.2", lambda S, f, c: S @ unit(f) @ c, "The sentence has not the length 1"),
    ("4.2", lambda S, f, c: S * (unit(f) @ unit(c)), "add them up"),
    ("4.3", lambda w, y: precision(-w, y)[y[np.argsort(w)]].mean(), "begins with the smallest weight"),
    ("4.3", lambda w, y: precision(w, y).mean(), "over all places of the ranking"),
    ("4.3", lambda w, y: precision(w, y)[y[np.argsort(-w)]].sum(), "take their mean"),
    ("4.3", lambda w, y: (y.cumsum() / np.arange(1, len(y) + 1))[y].mean(), "still in the order of time"),
    ("4.3", lambda w, y: precision(w, y), "The shape of your average precision is"),
    ("4.4", "SAW", "leaving out the padding helps"),
    ("4.4", "WSA", "leaving out the padding helps"),
    ("4.4", "AWS", "not the best"),
    ("4.4", "padding", "the three letters"),
    ("4.5", 0.34, "That would be chance"),
    ("4.5", 0.75, "It is higher"),
    ("4.5", 34, "from 0 to 1"),
    ("4.5", "high", "should be numbers"),
    ("4.6", lambda a, b: common(a, b) / (max(a[1], b[1]) - min(a[0], b[0])), "use max(0, …)"),
    ("4.6", lambda a, b: max(0, common(a, b)) / (length(a) + length(b)), "counted twice"),
    ("4.6", lambda a, b: max(0, common(a, b)) / length(b), "that is recall"),
    ("4.6", lambda a, b: max(0, common(a, b)) / min(length(a), length(b)), "by the shorter window"),
]
