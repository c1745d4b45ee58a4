"Typical wrong answers to the exercises of chapter 3, and what each is told."
import numpy as np


def unit(x): return x / np.linalg.norm(x, axis=-1, keepdims=True)
def table(f, w): return unit(w) @ unit(f).T
def highest(x, names, k): return [[names[i] for i in np.argsort(-row)[:k]] for row in x]


WRONG = [
    ("3.1", 1, "with the best frame"),
    ("3.1", 50, "does not sink so deep"),
    ("3.1", 0, "from 1 to 58"),
    ("3.1", "late", "should be numbers"),
    ("3.2", lambda f, w: table(f, w).max(0), "the best frame of each word"),
    ("3.2", lambda f, w: unit(w) @ unit(f.max(0)), "a frame that never was"),
    ("3.2", lambda f, w: (w @ f.T).max(1), "the longest frame wins"),
    ("3.2", lambda f, w: table(f, w).argmax(1), "max, not argmax"),
    ("3.2", lambda f, w: unit(w) @ unit(f.mean(0)), "the mean frame again"),
    ("3.3", highest, "person is in each list"),
    ("3.3", lambda x, n, k: highest(x - x.mean(1, keepdims=True), n, k), "changes no order"),
    ("3.3", lambda x, n, k: highest(x.mean(0) - x, n, k), "stand out least"),
    ("3.3", lambda x, n, k: np.argsort(x.mean(0) - x)[:, :k], "look up the names"),
    ("3.3", lambda x, n, k: highest(x - x.mean(0), n, k)[0], "one list for each clip"),
    ("3.3", lambda x, n, k: [row[::-1] for row in highest(x - x.mean(0), n, k)], "the best comes last"),
    ("3.3", lambda x, n, k: highest(x / x.mean(0), n, k), "For clip 1 (counted from 0) and k = 2 the answer is ['boat', 'tree'], and you give ['tree', 'boat']"),
    ("3.3", lambda x, n, k: highest(x - x.mean(0), n, k)[:2], "There are 3 clips"),
    ("3.3", lambda x, n, k: 5, "a list of lists"),
    ("3.4", lambda a: "This is a video about " + ", ".join(n for n, _ in a), "a blank behind each comma"),
    ("3.4", lambda a: "This is a video about " + ",".join(f"{n} {s}" for n, s in a), "The scores stand in the sentence"),
    ("3.4", lambda a: [n for n, _ in a], "Give one string"),
    ("3.4", lambda a: ",".join(n for n, _ in a), "is missing before them"),
    ("3.4", lambda a: "This is a video about " + ",".join(n for n, _ in a) + ".", "no full stop"),
    ("3.5", lambda s, c, y: (table(c, s).argmax(1) == y), "the accuracy is the mean"),
    ("3.5", lambda s, c, y: (table(c, s).argmax(1) == y).sum(), "divide by the number of sentences"),
    ("3.5", lambda s, c, y: ((s @ c.T).argmax(1) == y).mean(), "the longest class vector wins"),
    ("3.5", lambda s, c, y: (table(c, s).argmax(1) != y).mean(), "the share of mistakes"),
    ("3.5", lambda s, c, y: table(c, s).argmax(1), "compare the class with the label"),
    ("3.6", 0.95, "the other four are false"),
    ("3.6", 0.05, "not so bad"),
    ("3.6", 40, "from 0 to 1"),
]
