"Typical wrong answers to the exercises of chapter 3, and what each is told."
import numpy as np


def unit(x): return x / np.linalg.norm(x, axis=-1, keepdims=True)
def table(f, w): return unit(w) @ unit(f).T


WRONG = [
    ("3.1", lambda f, w: unit(w) @ f.mean(0), "The mean frame has not the length 1"),
    ("3.1", lambda f, w: w @ unit(f.mean(0)), "The words have not the length 1"),
    ("3.1", lambda f, w: w @ f.mean(0), "products, not cosines"),
    ("3.1", lambda f, w: table(f, w).mean(1), "You average cosines"),
    ("3.1", lambda f, w: table(f, w), "one score a word"),
    ("3.1", lambda f, w: unit(w) @ unit(f.mean(1)), "Your function stops"),
    ("3.2", lambda n, s, k: [n[i] for i in np.argsort(s)[:k]], "the worst first"),
    ("3.2", lambda n, s, k: [n[i] for i in np.argsort(s)[-k:]], "the best comes last"),
    ("3.2", lambda n, s, k: np.argsort(-s)[:k], "look up the names"),
    ("3.2", lambda n, s, k: [n[i] for i in np.argsort(-s)], "You give 5 names for k = 3"),
    ("3.2", lambda n, s, k: n[:k], "the answer is"),
    ("3.2", lambda n, s, k: sorted(zip(n, s), key=lambda x: -x[1])[:k], "the names alone"),
    ("3.3", lambda f, w: table(f, w).max(0), "the best frame of each word"),
    ("3.3", lambda f, w: unit(w) @ unit(f.max(0)), "a frame that never was"),
    ("3.3", lambda f, w: (w @ f.T).max(1), "the longest frame wins"),
    ("3.3", lambda f, w: table(f, w).argmax(1), "max, not argmax"),
    ("3.3", lambda f, w: unit(w) @ unit(f.mean(0)), "the mean frame again"),
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
