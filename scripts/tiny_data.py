"""Frames, captions, facts and colour questions for the training of the small models (scripts/train_tiny.py), all drawn by code."""
import copy, random

import numpy as np
import torch
from tqdm import tqdm

from bike_nb import world

TRAIN_SEEDS = 10_000_000  # clips of smaller seeds are never seen in training
SAID = 6                  # captions of a frame
ODD = .35                 # of the places come in colours that they never have, so that a colour is not taken for a place's
PLAIN_PLACES = [s for s in world.SCENES if s not in world.SCENE_WORDS]
CONTEXT = 32              # positions of the text tower
COLOURS = list(world.COLOURS)
NOUNS = list(dict.fromkeys([*world.COLOURED, *(a.coloured for a in world.ACTIONS.values() if a.coloured), *sorted({n for n, _ in world.HELD_OUT})]))


def script(seed, name, rng):
    "A clip for training: mostly standard, some harder, a few with their place only around the action."
    place = rng.choice(list(world.SCENES)) if rng.random() < .08 and not world.ACTIONS[name].scenes else None
    clip = world.sample_clip(seed, name, difficulty=rng.choices((1, 2, 3), (70, 20, 10))[0], place=place)
    for shot in clip.shots:
        if shot.scene in PLAIN_PLACES and rng.random() < ODD: shot.scene = f"odd {shot.scene}"
    return clip


def coloured_parts(clip, t):
    "What carries a colour at `t` seconds: (object, its attribute, noun)."
    shot, now = clip.shot(t), clip.active(t)
    parts = [(e, "colour", world.ACTIONS[e.action].coloured) for e in now] + [(o, "colour", o.kind) for o in shot.things]
    return [p for p in parts + [(q, "shirt", "shirt") for q in [*(e.look for e in now), shot.look] if q] if p[2] in NOUNS]


def twin(clip, t, rng):
    "The same clip but for the colour of one thing that shows at `t`: (clip, noun, its colour, the twin's colour), or None."
    shown, other = world.nouns(clip, t), copy.deepcopy(clip)
    other.memo.clear()
    fit = [(q, part, n) for (o, part, n), (q, _, _) in zip(coloured_parts(clip, t), coloured_parts(other, t)) if [c for m, c in shown if m == n] == [getattr(o, part)]]
    if not fit: return None
    thing, part, noun = rng.choice(fit)
    old, new = getattr(thing, part), rng.choice([c for c in COLOURS if c != getattr(thing, part) and (noun, c) not in world.HELD_OUT])
    setattr(thing, part, new)
    return (other, noun, old, new) if [c for m, c in world.nouns(other, t) if m == noun] == [new] else None


def named(noun, colour, rng):
    "A caption of one coloured thing."
    return rng.choice(world.TEMPLATES).format(rng.choice((world.noun_phrase(noun, colour), f"{colour} {noun}"))), {f"{colour} {noun}"}


def questions(clip, t):
    "(noun, colour) of the things whose colour can be asked for: those that show in one colour only; and the colours of all things."
    seen = [(n, c) for n, c in world.nouns(clip, t) if c and n in NOUNS and (n, c) not in world.HELD_OUT]
    once = [(n, c) for n, c in seen if sum(n == m for m, _ in seen) == 1]
    return [(NOUNS.index(n), COLOURS.index(c)) for n, c in once[:6]], sorted({COLOURS.index(c) for _, c in seen})


def draw(n, seed, twins, show):
    "n frames (n, 3, 96, 96) uint8, two thirds of them from within the action, and of each its facts, captions and questions; neighbours 2i and 2i+1 may be twins."
    rng, names = random.Random(seed), list(world.ACTIONS)
    frames, facts, said, asked = np.empty((n, 96, 96, 3), np.uint8), [], [], []
    def add(clip, t, extra=None):
        frames[len(facts)] = world.render_frame(clip, t)
        facts.append(world.facts(clip, t)); asked.append(questions(clip, t))
        said.append([world.caption(clip, t, rng) if k % 2 or not extra else named(*extra, rng) for k in range(SAID)])
    bar = tqdm(total=n, desc="drawing", mininterval=5, disable=not show)
    for i in range(n):
        if len(facts) >= n: break
        clip = script(TRAIN_SEEDS + seed * 1_000_000 + i, names[i % len(names)], rng)
        t = rng.uniform(clip.start, clip.end) if rng.random() < .67 else rng.uniform(0, clip.duration)
        pair = twin(clip, t, rng) if len(facts) % 2 == 0 and rng.random() < twins else None
        add(clip, t, pair and (pair[1], pair[2]))
        if pair: add(pair[0], t, (pair[1], pair[3]))
        bar.update(len(facts) - bar.n)
    return torch.from_numpy(frames).permute(0, 3, 1, 2), facts, said, asked


def all_facts():
    "Every fact that a caption can state, in a fixed order."
    actions = [world.coloured_phrase(a, c) for a in world.ACTIONS for c in COLOURS]
    return list(dict.fromkeys([*world.vocabulary(), *(f"{c} {n}" for n in NOUNS for c in COLOURS), *actions]))


def false_colour(text, said, rng):
    "The caption with its first colour replaced by another one, and the facts it then states; None if it names no colour, or would name a held-out pair."
    for c in COLOURS:
        if any(f.startswith(c + " ") or f" {c} " in f for f in said):
            swap = lambda s, new: s.replace("an orange ", "a orange ").replace(c + " ", new + " ").replace("a orange ", "an orange ")
            fit = [q for q in COLOURS if q != c and not any(f"{h} {n}" in swap(f, q) for f in said for n, h in world.HELD_OUT)]
            new = rng.choice(fit) if fit else None
            return (swap(text, new), {swap(f, new) for f in said}) if new else None
    return None


class Captions:
    "Captions as ids in a vocabulary of only those tokens that can come (`rows`, in CLIP's order), facts as rows of zeros and ones; the last column: facts not in the list, never true."
    def __init__(self):
        from open_clip import SimpleTokenizer
        self.tokenizer, self.cache, self.index, rng = SimpleTokenizer(context_length=CONTEXT), {}, {f: i for i, f in enumerate(all_facts())}, random.Random(0)
        texts = {t.format(p) for t in world.TEMPLATES for p in self.index} | {f"{world.noun_phrase('person')} and {p}" for p in self.index} | set(world.PLACE.values())
        texts |= {world.noun_phrase(n, c) for n in [*world.vocabulary(), *NOUNS] for c in (None, *COLOURS)} | {"This is a video about person,red kite"}
        for i in range(500):
            clip = script(TRAIN_SEEDS - 1 - i, rng.choice(list(world.ACTIONS)), rng)
            texts.add(world.caption(clip, rng.uniform(clip.start, clip.end), rng)[0])
        self.rows = sorted({0, *self.tokenizer(sorted(texts), context_length=CONTEXT).unique().tolist()})
        self.place = {r: i for i, r in enumerate(self.rows)}

    def tokens(self, texts): # list of str -> (n, CONTEXT)
        for t in set(texts) - self.cache.keys(): self.cache[t] = torch.tensor([self.place[i] for i in self.tokenizer([t], context_length=CONTEXT)[0].tolist()])
        return torch.stack([self.cache[t] for t in texts])

    def multi_hot(self, facts):
        row = torch.zeros(len(self.index) + 1)
        row[[self.index.get(f, len(self.index)) for f in facts]] = 1
        return row

    def of(self, facts, said):
        "Take what `draw` gave of the frames."
        self.said, self.shown = said, torch.stack([self.multi_hot(f) for f in facts]).bool()
        self.shown[:, -1] = False

    def draw(self, pick, rng, extra): # token ids of a caption each, then of `extra` false ones (m, CONTEXT); which of them are true of which frames (n, m)
        said = [rng.choice(self.said[i]) for i in pick]
        said += [f for f in (false_colour(*s, rng) for s in said) if f][:extra]
        facts = torch.stack([self.multi_hot(f) for _, f in said])
        return self.tokens([t for t, _ in said]), self.shown[pick].float() @ facts.T == facts.sum(1)
