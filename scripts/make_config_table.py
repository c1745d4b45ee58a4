"""Write configs/README.md: the experiments, what the official release reached with them, and the commands, from configs/results.csv.

    python scripts/make_config_table.py
"""
import csv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = """<!-- Made from configs/results.csv by scripts/make_config_table.py: change these. -->

# Experiments

Each experiment of the official release as a file of ours: the same keys, only those that differ from the defaults or that you may
have to change. The official files run as they are, too: `bike_nb train k400_train_rgb_vitb-16-f8.yaml --set data.train_root=… --set data.val_root=…`.

**What you bring.** The videos, and the official lists. The files expect them below the folder in which you start: frames or videos in
`data/`, lists in `lists/` (the folder of that name in the official repository fits as it is), official checkpoints in `checkpoints/`.
Anything can lie elsewhere: `--set data.val_root=/my/frames`. Class names come with the package.

**Checkpoints.** Where a file names a checkpoint as `pretrain`, it starts from a model trained on Kinetics-400: the official one, or your own
`model_best.pt` (`--set pretrain=exps/k400/ViT-L/14/16f/model_best.pt`). One official checkpoint can be fetched by its name, `bike-k400-vit-b-16-f8`.
Zero-shot experiments train nothing: they test a model of Kinetics-400 on other classes.

**Attributes first.** The experiment with both branches reads a file of attributes for each list. Make them by

    torchrun --nproc_per_node 8 -m bike_nb attributes --config configs/k400_video-attributes_vit-b-32_8f.yaml --split train --model ViT-L-14 --lexicon imagenet --workers 4

and again with `--split val`.

**How many GPUs?** `batch_size` is that of each process, as in the official code, which trained with eight: with two, add
`--set grad_accumulation_steps=4`, which is near to, but not the same as, a contrastive batch of 256. A run that was stopped goes on
by the same command. `torchrun --nproc_per_node 8 -m bike_nb test …` tests faster, with the same figures.

**The figures** are those of the official release (its README, unless the column says more); the paper's stand beside them where they differ. An empty cell: none was published as
a number. Views are clips × crops. None of these experiments has been run here: that takes the data, and days on GPUs.
"""
COLUMNS = "experiment", "dataset", "model", "frames", "views", "official figure", "source", "train", "test"
WORLD = """
## The miniature world

These run here, without any data: the clips are drawn first. Their figures are ours.
"""


def rows(root=ROOT):
    with open(root/"configs"/"results.csv", encoding="utf-8", newline="") as f: return list(csv.DictReader(f))


def table(rows, figure="official figure"):
    "Markdown of some rows."
    def cell(r, name):
        value = r["figure" if name == figure else name]
        if name == "experiment": return f"[{value}]({value}.yaml)"
        return f"`{value}`" if value and name in ("train", "test") else value
    names = [figure if c == "official figure" else c for c in COLUMNS]
    return "\n".join(["| " + " | ".join(names) + " |", "|---" * len(names) + "|", *("| " + " | ".join(cell(r, n) for n in names) + " |" for r in rows)]) + "\n"


def make(root=ROOT):
    "The text of configs/README.md."
    official, own = [r for r in rows(root) if r["official"]], [r for r in rows(root) if not r["official"]]
    return HEAD + "\n" + table(official) + (WORLD + "\n" + table(own, "figure") if own else "")


if __name__ == "__main__": (ROOT/"configs"/"README.md").write_text(make(), encoding="utf-8")
