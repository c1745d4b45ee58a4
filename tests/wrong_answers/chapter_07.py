"Typical wrong answers to the exercises of chapter 7, and what the check should say."
import numpy as np


def centred(frames): return np.arange(len(frames)) - (len(frames) - 1) / 2

def waves(n, wavelengths, turn=2 * np.pi):
    angle = turn * np.arange(n)[:, None] / wavelengths
    return np.concatenate([np.sin(angle), np.cos(angle)], 1)

def twins(x, y, partner): return np.concatenate([x, x[:, ::-1]]), np.concatenate([y, partner[y]])


WRONG = [
    ("7.1", 1 / 6, "pure chance among six"),
    ("7.1", 1.0, "in which direction"),
    ("7.1", 50, "not in percent"),
    ("7.2", "A", "in whatever order"),
    ("7.2", "B", "not with its neighbour"),
    ("7.2", "D", "why concept spotting fails"),
    ("7.3", lambda f: np.arange(len(f)) @ f / (np.arange(len(f)) @ np.arange(len(f))), "do not subtract the mean"),
    ("7.3", lambda f: centred(f) @ f, "divide it by"),
    ("7.3", lambda f: (f[-1] - f[0]) / (len(f) - 1), "two frames only"),
    ("7.3", lambda f: f @ centred(f.T) / (centred(f.T) @ centred(f.T)), "over the dimensions"),
    ("7.4", lambda n, w: waves(n, w, 1), "factor 2π is missing"),
    ("7.4", lambda n, w: waves(n, 1 / w), "divide by it"),
    ("7.4", lambda n, w: waves(n, w)[:, :len(w)], "cosines are missing"),
    ("7.5", lambda x, y, p: (np.concatenate([x, x[::-1]]), np.concatenate([y, p[y]])), "axis 0"),
    ("7.5", lambda x, y, p: (twins(x, y, p)[0], np.concatenate([y, y])), "kept their labels"),
    ("7.5", lambda x, y, p: (x[:, ::-1], p[y]), "clips themselves are missing"),
]
