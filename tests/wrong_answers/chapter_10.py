"Typical wrong answers to the exercises of chapter 10, and a piece of what the learner must hear."
import numpy as np


def frames(files): return [f for f in files if f.startswith("img_") and f.endswith(".jpg")]

def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)

WRONG = [
    ("10.1", lambda name, files, label: f"{name} {len(files)} {label}", "count all files"),
    ("10.1", lambda name, files, label: f"{name} {sum(f.startswith('img_') for f in files)} {label}", "broke off"),
    ("10.1", lambda name, files, label: f"{name} {sum(f.endswith('.jpg') for f in files)} {label}", "look at the beginning"),
    ("10.1", lambda name, files, label: f"{name} {len(frames(files)) - 1} {label}", "One frame too few"),
    ("10.1", lambda name, files, label: f"{name} {label} {len(frames(files))}", "exchanged"),
    ("10.1", lambda name, files, label: f"{name} {label}", "number of frames is missing"),
    ("10.1", lambda name, files, label: f"{name},{len(frames(files))},{label}", "without commas"),
    ("10.1", lambda name, files, label: f"{name}/img_00001.jpg {len(frames(files))} {label}", "not a file"),
    ("10.1", lambda name, files, label: (name, len(frames(files)), label), "is text"),
    ("10.1", lambda name, files, label: f"{label} {len(frames(files))} {name}", "your line is"),
    ("10.2", lambda videos, per_gpu, gpus, epochs: videos // per_gpu * epochs, "forgotten the GPUs"),
    ("10.2", lambda videos, per_gpu, gpus, epochs: videos // (per_gpu * gpus), "one epoch"),
    ("10.2", lambda videos, per_gpu, gpus, epochs: -(-videos // (per_gpu * gpus)) * epochs, "round up"),
    ("10.2", lambda videos, per_gpu, gpus, epochs: videos * epochs // (per_gpu * gpus), "round once"),
    ("10.2", lambda videos, per_gpu, gpus, epochs: videos * epochs / (per_gpu * gpus), "whole"),
    ("10.2", lambda videos, per_gpu, gpus, epochs: videos // (per_gpu * gpus) * epochs * gpus, "the same step together"),
    ("10.3", "A", "compares the videos of a batch"),
    ("10.3", "c", "before the weights move"),
    ("10.3", 8, "one of the letters"),
    ("10.4", lambda logits: softmax(logits.mean(0)), "average the logits"),
    ("10.4", lambda logits: softmax(logits, 0).mean(0), "over the views"),
    ("10.4", lambda logits: softmax(logits, 0).mean(1), "wrong axes"),
    ("10.4", lambda logits: logits.mean(0), "softmax is missing"),
    ("10.4", lambda logits: softmax(logits).max(0), "best view"),
    ("10.4", lambda logits: softmax(logits).sum(0), "added up"),
    ("10.4", softmax, "a row for each view"),
    ("10.4", lambda logits: softmax(logits).mean(1), "average over the classes"),
    ("10.4", lambda logits: softmax(softmax(logits).mean(0)), "One softmax more"),
]
