"Typical wrong answers to the exercises of chapter 9, and what each is told."
import numpy as np


def cosines(b, p): return b @ p / np.linalg.norm(b, axis=1) / np.linalg.norm(p)
def best(blocks, p): return max((cosines(b, p).max(), t[cosines(b, p).argmax()]) for b, t in blocks)
def keeps(blocks, p): b, t = map(np.concatenate, zip(*list(blocks))); return cosines(b, p).max(), t[cosines(b, p).argmax()]
def last(blocks, p): b, t = list(blocks)[-1]; return cosines(b, p).max(), t[cosines(b, p).argmax()]
def first(blocks, p): b, t = next(blocks); return cosines(b, p).max(), t[cosines(b, p).argmax()]
def place(blocks, p): return max((cosines(b, p).max(), cosines(b, p).argmax()) for b, t in blocks)

def pairs(ws, gap): return [(a[0], b[1]) if b[0] - a[1] <= gap else a for a, b in zip(ws, ws[1:])] + ws[-1:]
def merge(ws, gap, order=sorted, end=max, less=np.less_equal):
    found = []
    for a, b in order(ws):
        if found and less(a - found[-1][1], gap): found[-1] = (found[-1][0], end(found[-1][1], b))
        else: found.append((a, b))
    return found

def clips(tags, word): return [k for k, e in tags.items() if word in e["classname_topk"]]
def parts(tags, word): return sorted((k for k, e in tags.items() if word in " ".join(e["classname_topk"])), key=lambda k: " ".join(tags[k]["classname_topk"]).index(word))


WRONG = [
    ("9.1", 4, "must fall into three seconds"),
    ("9.1", 200, "one frame into every three seconds"),
    ("9.1", 600, "One frame a second"),
    ("9.1", 1000, "how far apart"),
    ("9.1", "fps", "should be numbers"),
    ("9.2", keeps, "You keep the blocks"),
    ("9.2", last, "of the last block"),
    ("9.2", first, "of the first block"),
    ("9.2", place, "is no time"),
    ("9.2", lambda blocks, p: max((max(b @ p), t[(b @ p).argmax()]) for b, t in blocks), "no cosines"),
    ("9.2", lambda blocks, p: best(blocks, p)[::-1], "wrong order"),
    ("9.2", lambda blocks, p: best(blocks, p)[0], "two numbers"),
    ("9.3", lambda ws, gap: ws, "half a second apart"),
    ("9.3", lambda ws, gap: [(min(ws)[0], max(w[1] for w in ws))] if ws else [], "You join everything"),
    ("9.3", pairs, "that you are building"),
    ("9.3", lambda ws, gap: merge(ws, gap, order=list), "sort them first"),
    ("9.3", lambda ws, gap: merge(ws, gap, end=lambda a, b: b), "the later of both ends"),
    ("9.3", lambda ws, gap: merge(ws, gap, less=np.less), "use <="),
    ("9.4", clips, "Sort by the place"),
    ("9.4", lambda tags, word: list(tags), "only b.mp4 and c.mp4"),
    ("9.4", parts, "compare whole words"),
    ("9.4", lambda tags, word: {k: 0 for k in clips(tags, word)}, "a list of clips"),
]
