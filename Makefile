# Everything a reader or a developer does starts here; `make` alone lists it. Nothing needs to be installed beforehand but
# Python 3.10+ and make (the make 3.81 of macOS is enough). Paths are relative, so that the folder's name may hold spaces.

PYTHON  ?= python3
BIN     := .venv/bin
READY   := .venv/.installed
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); if [ "$$n" -gt 4 ]; then echo 4; else echo "$$n"; fi)
KITE    := data_samples/00_flying_a_kite.mp4
CLIP    ?= $(KITE)
CONCEPTS ?= $(if $(filter $(KITE),$(CLIP)),flying a kite; yellow flag; a person; white star)
NB      ?=
FLAGS   ?=
MARKS    = $(shell echo $(FLAGS) | sed 's/  */ or /g')
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test lab check export notebooks compare readme badges docs bench tiny small cards worlds samples pictures wheel constraints clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

venv: $(READY) ## set up .venv with the pinned packages (3 minutes and 7 GB, once)

$(READY): settings.ini setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "bike_nb needs Python 3.10 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo 'not there'): name another one, as in: make venv PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up .venv: about 3 minutes and 7 GB of disk, once."
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

demo: $(READY) ## explain a clip of data_samples/ (another one: make demo CLIP=my.mp4 CONCEPTS="a dog; a car"): what it shows, and when
	$(BIN)/python -m bike_nb explain "$(CLIP)" $(if $(CONCEPTS),--concepts "$(CONCEPTS)") --html --out out

test: $(READY) ## all tests: the notebooks, then pytest (the marked ones too: make test FLAGS="slow cuda")
	OMP_NUM_THREADS=1 $(BIN)/nbdev_test --n_workers $(WORKERS) --timing --flags "$(FLAGS)"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(if $(FLAGS),-m "$(MARKS) or not (slow or cuda or browser)")

lab: $(READY) ## open JupyterLab in nbs/
	cd nbs && ../$(BIN)/python -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root)

check: $(READY) ## are package, notebooks, README and constraints in step?
	$(BIN)/python scripts/check.py

export: $(READY) ## write bike_nb/ from the notebooks
	$(BIN)/nbdev_export
	@touch $(READY) # nbdev_export writes pyproject.toml anew each time, which is no reason to install again

notebooks: export ## run the notebooks and keep their outputs, cleaned (one: make notebooks NB=nbs/03_spotting.ipynb)
	$(BIN)/python scripts/run_notebooks.py $(if $(NB),"$(NB)")

compare: $(READY) ## run the notebooks, write nothing: do they say again what they say? (one: make compare NB=nbs/03_spotting.ipynb)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/run_notebooks.py --compare $(if $(NB),"$(NB)")

readme: $(READY) ## write README.md from nbs/index.ipynb
	$(BIN)/python scripts/make_readme.py

badges: $(READY) ## the links of the tutorials to Colab and Binder, and their cell that installs, from settings.ini
	$(BIN)/python scripts/make_badges.py

docs: $(READY) ## build the site in _docs/ from the notebooks as they are (a minute), and follow its links; it opens from disk: _docs/index.html
	$(BIN)/python scripts/make_docs.py

bench: $(READY) ## measure what benchmarks/ measures and print the tables (2 threads; let the machine be idle)
	@for f in benchmarks/*.py; do echo "== $$f"; OMP_NUM_THREADS=2 $(BIN)/python "$$f" || exit 1; done

tiny: $(READY) ## train the tiny model from nothing (about an hour on 2 cores; goes on where it was stopped)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/train_tiny.py --minutes 54 --steps 3400

small: $(READY) ## train a ViT that starts from what tiny knows (an hour on 2 cores; its weights do not come with the package)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/train_tiny.py --arch small --teacher tiny --minutes 60 --steps 4000

cards: $(READY) ## measure the packaged models on fresh clips, and write their novelty scores, figures and cards (half an hour)
	@for m in $$(ls bike_nb/models); do OMP_NUM_THREADS=1 $(BIN)/python scripts/fit_novelty.py --model $$m && \
	  OMP_NUM_THREADS=1 $(BIN)/python scripts/evaluate_world.py --model $$m --seeds 1 2 3 --difficulties 0 1 2 3 --write || exit 1; done

worlds: $(READY) ## run the experiments of the miniature world, three seeds each (an hour and a half on 2 cores)
	@for f in configs/world_*.yaml; do $(BIN)/python scripts/run_world.py $$f || exit 1; done

samples: $(READY) ## render data_samples/ anew
	rm -rf data_samples
	$(BIN)/python -m bike_nb world data_samples --clips 12 --seed 496 --size 320

pictures: $(READY) ## take the picture of the viewer that README shows (needs a Chromium)
	$(BIN)/python scripts/take_pictures.py

wheel: $(READY) ## build dist/*.whl
	$(BIN)/python -m build --wheel

constraints: ## resolve constraints.txt anew from settings.ini (newest versions: make constraints UPGRADE=--upgrade)
	$(PYTHON) -m venv build/uv && build/uv/bin/python -m pip install -q --disable-pip-version-check uv
	build/uv/bin/uv pip compile -q --universal --python-version 3.10 --no-emit-index-url --no-header --no-annotate \
	  $(UPGRADE) setup.py --extra dev -o constraints.txt >/dev/null
	@{ echo "# Every package that bike_nb and its development need, Python 3.10 and later. Made by: make constraints"; \
	  cat constraints.txt; } > build/constraints.txt && mv build/constraints.txt constraints.txt

clean: ## remove what was built or written by a demo (.venv stays; remove that with rm -rf .venv)
	rm -rf build dist out *.egg-info .pytest_cache
	find . \( -name .venv -o -name .git \) -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
