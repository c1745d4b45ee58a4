"Typical wrong answers to the exercises of chapter 8, and what each is told."
import numpy as np


def around(v, half): return v.mean() - half, v.mean() + half
def se(v): return np.std(v, ddof=1) / len(v)**.5
def paired(a, b): d = a - b; return d.mean() - 2.776 * se(d), d.mean(), d.mean() + 2.776 * se(d)

def unpaired(a, b):
    half = 2.776 * (se(a)**2 + se(b)**2)**.5
    return (a - b).mean() - half, (a - b).mean(), (a - b).mean() + half

def ends_first(a, b): low, mean, high = paired(a, b); return low, high, mean
def verdict(low, high): return "confirmed" if low > 0 else "contradicted" if high < 0 else "not settled"


WRONG = [
    ("8.1", lambda v: around(v, 1.96 * se(v)), "which is right for many values"),
    ("8.1", lambda v: around(v, 2.776 * np.std(v) / 5**.5), "divide by 4 (ddof=1)"),
    ("8.1", lambda v: around(v, 2.776 * np.std(v, ddof=1)), "the range of single seeds"),
    ("8.1", lambda v: around(v, 2.776 * np.std(v, ddof=1) / 5), "divide by the square root of 5"),
    ("8.1", lambda v: around(v, se(v)), "multiply it by 2.776"),
    ("8.1", lambda v: (v.min(), v.max()), "no interval of the mean"),
    ("8.1", lambda v: (v.mean(), 2.776 * se(v)), "the lower and the upper end"),
    ("8.1", lambda v: v.mean(), "The shape of your interval is ()"),
    ("8.2", unpaired, "its luck cancels"),
    ("8.2", lambda a, b: paired(b, a), "a minus b"),
    ("8.2", ends_first, "lower end, mean, upper end"),
    ("8.2", lambda a, b: (np.min(a - b), np.mean(a - b), np.max(a - b)), "no interval of the mean"),
    ("8.3", "S", "the close-up does not show the place"),
    ("8.3", "E", "far from equal"),
    ("8.3", "spotting", "one letter"),
    ("8.4", lambda low, high: "confirmed" if low + high > 0 else "contradicted", "wherever its middle lies"),
    ("8.4", lambda low, high: verdict(-high, -low), "the wrong way round"),
    ("8.4", lambda low, high: "confirmed" if low >= 0 else "contradicted" if high <= 0 else "not settled", "at its very end"),
    ("8.4", lambda low, high: "not settled", "something is settled here"),
    ("8.4", lambda low, high: low > 0, "Answer \"confirmed\""),
    ("8.5", .05, "in one comparison"),
    ("8.5", 1, "the number of false alarms to be expected"),
    ("8.5", .36, "none at all"),
    ("8.5", .5, "that all twenty are"),
    ("8.5", 20, "from 0 to 1"),
]
