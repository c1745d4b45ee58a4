"""Train as a JSON file says: what test_training.py starts in processes of its own, to kill them or to let them work together.

    python tests/run_fit.py CONFIG.json NAME [SABOTAGE]      # or under torchrun

SABOTAGE is how a test makes one rank fail: "rank1:3" raises in rank 1 when it reads its third batch."""
import json, os, sys

import torch

if __name__ == "__main__":
    torch.set_num_threads(1)
    from bike_nb import training
    config, name, *sabotage = sys.argv[1:]
    if sabotage and sabotage[0].split(":")[0] == f"rank{os.environ.get('RANK')}":
        left, honest = int(sabotage[0].split(":")[1]), training.step_losses

        def broken(learner, batch):
            global left
            left -= 1
            if left < 0: raise training.TrainingError("this rank was told to fail.")
            return honest(learner, batch)
        training.Learner.forward = broken
    try: print(training.fit(training.TrainConfig.from_dict(json.load(open(config))), name, device="cpu", progress=False))
    except ValueError as error: sys.exit(f"bike_nb: {error}")
