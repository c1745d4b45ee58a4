"Metrics against numbers worked out by hand, by brute force and by other libraries."
import itertools, math, random

import numpy as np
import pytest
import torch

from bike_nb import evaluation as ev


# metrics

def slow_ap(scores, truth):
    "Sum over thresholds, from the highest down, of precision times the recall that is new there."
    found, total = 0., sum(truth)
    for t in sorted(set(scores), reverse=True):
        taken = [y for s, y in zip(scores, truth) if s >= t]
        new = sum(y for s, y in zip(scores, truth) if s == t)
        found += sum(taken) / len(taken) * new / total
    return found


@pytest.mark.parametrize("scores, truth, expected", [
    ([4, 3, 2, 1], [1, 0, 1, 0], (1 + 2 / 3) / 2), ([1, 2, 3, 4], [1, 0, 0, 0], 1 / 4), ([1, 1, 1, 1], [1, 0, 0, 1], 1 / 2),
    ([3, 2, 2, 1], [0, 1, 0, 1], (1 / 3 + 2 / 4) / 2), ([5, 4], [1, 1], 1), ([-7.5, -8.5, -7.5], [1, 1, 0], (1 / 2 + 2 / 3) / 2)])
def test_average_precision_by_hand(scores, truth, expected): assert ev.average_precision(scores, truth).item() == pytest.approx(expected)


def test_average_precision_by_brute_force():
    rng = random.Random(0)
    for _ in range(200):
        n = rng.randint(1, 12)
        scores, truth = [rng.randint(0, rng.choice((2, 50))) / 7 for _ in range(n)], [rng.random() < .4 for _ in range(n)]
        if not any(truth): assert ev.average_precision(scores, truth).isnan(); continue
        expected, weights = slow_ap(scores, truth), [rng.randint(0, 3) for _ in range(n)]
        assert ev.average_precision(scores, truth).item() == pytest.approx(expected)
        assert ev.average_precision([math.exp(3 * s) - 5 for s in scores], truth).item() == pytest.approx(expected)  # only the order counts
        repeated = [(s, y) for s, y, w in zip(scores, truth, weights) for _ in range(w)]
        if any(y for _, y in repeated): assert ev.average_precision(scores, truth, weights).item() == pytest.approx(slow_ap(*zip(*repeated)))


def test_mean_average_precision_agrees_with_torchmetrics():
    from torchmetrics.functional.classification import multilabel_average_precision
    rand = torch.Generator().manual_seed(3)
    scores, truth = torch.rand(60, 9, generator=rand), torch.rand(60, 9, generator=rand) < torch.linspace(.05, .9, 9)
    assert ev.mean_average_precision(scores, truth) == pytest.approx(multilabel_average_precision(scores, truth.long(), 9).item(), abs=1e-6)
    truth[:, 4] = False  # a class that nothing shows is left out
    rest = [c for c in range(9) if c != 4]
    assert ev.mean_average_precision(scores, truth) == pytest.approx(ev.mean_average_precision(scores[:, rest], truth[:, rest]))


@pytest.mark.parametrize("true, n", [(1, 1), (1, 5), (2, 6), (3, 3), (4, 6)])
def test_chance_is_the_mean_over_all_rankings(true, n):
    every = [slow_ap(range(n, 0, -1), y) for y in set(itertools.permutations([1] * true + [0] * (n - true)))]
    assert ev.chance_ap(true, n) == pytest.approx(np.mean(every))


def test_saliency_metrics_by_hand_and_by_brute_force():
    s = torch.tensor([[.1, .4, .4, .1], [.7, .1, .1, .1], [.25] * 4, [.4, .3, .2, .1]])
    y = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()  # nothing is true of the last one
    found = ev.saliency_scores(s, y)
    assert found["AP"][:3].tolist() == pytest.approx([1, 1 / 4, 1 / 4]) and found["AUC"][:3].tolist() == pytest.approx([1, 1 / 3, 1 / 2])
    assert found["HIT@1"][:3].tolist() == pytest.approx([1, 0, 1 / 4]) and all(v[3].isnan() for v in found.values())
    assert ev.saliency_metrics(s, y) == pytest.approx({"AP": 1.5 / 3, "AUC": (1 + 1 / 3 + 1 / 2) / 3, "HIT@1": 1.25 / 3, "HL-mAP": 150 / 4, "HL-Hit1": 200 / 4})
    rand = torch.Generator().manual_seed(1)
    s, y = torch.randint(0, 5, (40, 7), generator=rand) / 5, torch.rand(40, 7, generator=rand) < .4
    for row, truth, auc in zip(s.tolist(), y.tolist(), ev.auroc(s, y).tolist()):
        pairs = [(a > b) + (a == b) / 2 for a, t in zip(row, truth) if t for b, u in zip(row, truth) if not u]
        assert auc == pytest.approx(np.mean(pairs)) if pairs else math.isnan(auc)


def test_top_k_counts_equals_in_order_and_the_confusion_matrix_counts_all():
    rand = torch.Generator().manual_seed(2)
    logits, labels = torch.randint(0, 4, (300, 6), generator=rand).float(), torch.randint(0, 6, (300,), generator=rand)
    for k in (1, 2, 5):
        best = [sorted(range(6), key=lambda c: (-row[c], c))[:k] for row in logits.tolist()]
        assert ev.hits(logits, labels, k).tolist() == [y in b for y, b in zip(labels.tolist(), best)]
    assert ev.top_k(logits, labels, 6) == 1
    m = ev.confusion_matrix(logits.argmax(1), labels, 6)
    assert m.sum() == 300 and m.diagonal().sum() == ev.hits(logits, labels).sum()
    i, j = labels[0], logits.argmax(1)[0]
    assert m[i, j] == sum(a == i and b == j for a, b in zip(labels, logits.argmax(1)))


@pytest.mark.parametrize("bad, why", [(lambda: ev.average_precision([1., math.inf], [1, 0]), "not finite"), (lambda: ev.saliency_metrics(torch.ones(2, 3), torch.ones(2, 3)), "of bool"),
                                      (lambda: ev.saliency_metrics(torch.ones(2, 3), torch.ones(2, 4) > 0), r"\(2, 3\) and \(2, 4\)"), (lambda: ev.saliency_metrics(torch.ones(3), torch.ones(3) > 0), r"\(B,T\)")])
def test_metrics_refuse_in_one_sentence(bad, why):
    with pytest.raises(ev.EvaluationError, match=why): bad()


# intervals

def test_wilson_against_published_values():
    assert ev.wilson(8, 10) == pytest.approx((.4902, .9433), abs=1e-4) and ev.wilson(0, 10) == pytest.approx((0, .2775), abs=1e-4)
    assert ev.share([True] * 8 + [False] * 2) == ev.Estimate(.8, *ev.wilson(8, 10), 10)


def test_intervals_hold_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    inside = lambda e, truth: e.low <= truth <= e.high
    assert .92 < np.mean([inside(ev.share(rng.random(200) < .9), .9) for _ in range(400)]) < .98
    assert .91 < np.mean([inside(ev.average(rng.beta(8, 2, 120), times=300), .8) for _ in range(300)]) < .98
    e = ev.average(values := rng.normal(.5, .1, 400))
    assert e.high - e.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=.1)


def test_map_and_its_interval():
    rand = torch.Generator().manual_seed(5)
    scores, truth = torch.rand(80, 6, generator=rand), torch.rand(80, 6, generator=rand) < .3
    e = ev.average_map(scores + truth * .3, truth)
    assert e.value == ev.mean_average_precision(scores + truth * .3, truth) and e.low < e.value < e.high and e.n == 80
    blind = ev.average_map(scores, truth)
    assert blind.low < blind.chance < blind.high and e.low > blind.high


def test_a_perfect_score_is_no_certainty():
    for e in (ev.average(torch.ones(50)), ev.share([True] * 50), ev.average_map(torch.eye(4).repeat(5, 1), torch.eye(4).repeat(5, 1) > 0)): assert e.value == e.high == 1 and .8 < e.low < .98


def test_over_seeds_by_hand():
    a, b, c = (ev.Estimate(v, v - .001, v + .001, 10, .5) for v in (.77, .8, .83))
    three = ev.over_seeds([a, b, c])
    assert three.value == pytest.approx(.8) and three.n == 30 and three.chance == .5
    assert three.high - three.value == pytest.approx(4.303 * .03 / math.sqrt(3)) and three.value - three.low == pytest.approx(4.303 * .03 / math.sqrt(3))
    same = ev.over_seeds([ev.Estimate(.9, .84, .93, 10)] * 4)
    assert (same.low, same.high) == pytest.approx((.9 - .06 / 2, .9 + .03 / 2))
    nothing = ev.share([])
    assert ev.over_seeds([a]) == a and ev.over_seeds([a, nothing]) == a and ev.over_seeds([nothing]).n == 0
