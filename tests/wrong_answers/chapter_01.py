"Typical wrong answers to the exercises of chapter 1, and a piece of what the learner must hear."
import numpy as np


def order(weights): return np.argsort(-weights, axis=-1) + 1
def from_zero(weights): return np.argsort(np.argsort(-weights, axis=-1), axis=-1)
def upside_down(weights): return np.argsort(np.argsort(weights, axis=-1), axis=-1) + 1
def over_concepts(weights): return np.argsort(np.argsort(-weights, axis=0), axis=0) + 1

def cut(cosine, times, level):
    on = np.flatnonzero(cosine >= level)
    return times[on[0]], times[on[-1]]

def best(score, names, k): return [names[i] for i in np.argsort(-score)[:k]]

WRONG = [
    ("1.1", order, "A place is the inverse"),
    ("1.1", from_zero, "begin at 0"),
    ("1.1", upside_down, "The smallest weight has place 1"),
    ("1.1", over_concepts, "over the concepts"),
    ("1.1", lambda weights: weights.rank(), "Your function stops"),
    ("1.2", "A", "sum to one"),
    ("1.2", "c", "does not know how many"),
    ("1.2", 0.2, "one of the letters"),
    ("1.3", lambda cosine, weight, level: weight.max(1) >= level, "compare the weights"),
    ("1.3", lambda cosine, weight, level: cosine.mean(1) >= level, "average over the frames"),
    ("1.3", lambda cosine, weight, level: cosine.max(0) >= level, "one answer for each frame"),
    ("1.3", lambda cosine, weight, level: cosine >= level, "for each concept and frame"),
    ("1.3", lambda cosine, weight, level: cosine.max(1) > level, "to reach the level is enough"),
    ("1.3", lambda cosine, weight, level: (cosine * weight).sum(1) >= level, "No weight is needed"),
    ("1.4", lambda cosine, times: cut(cosine, times, cosine.max() / 2), "half of the maximum"),
    ("1.4", lambda cosine, times: cut(cosine, times, cosine.mean()), "the mean of the cosines"),
    ("1.4", lambda cosine, times: cut(cosine, times, (cosine.max() - cosine.min()) / 2), "counted from zero"),
    ("1.4", lambda cosine, times: cut(cosine, np.arange(len(times)), (cosine.max() + cosine.min()) / 2), "the numbers of the frames"),
    ("1.5", lambda cosines, names, k: best(cosines.mean(1), names, k), "You average each word"),
    ("1.5", lambda cosines, names, k: best(-cosines.max(1), names, k), "fit worst"),
    ("1.5", lambda cosines, names, k: best(cosines.max(1), names, k)[::-1], "wrong order"),
    ("1.5", lambda cosines, names, k: np.argsort(-cosines.max(1))[:k], "numbers of the words"),
]
