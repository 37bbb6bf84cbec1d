# make demo   environment, nuclei counted by the shipped model; digits, training, test, images: COCO AP in five to six minutes
# make test   environment, the examples of the docstrings, and the test suite
# make coverage  the same, measured: the lines and branches that no test runs, and an error below one of the floors of pyproject.toml
# make zoo    every combination of network and head in the zoo of mmseg as an instance segmenter, about eight minutes
# make fuzz   20000 random faults in an annotation file: none may crash, hang or move an object, about five minutes
# make faults kills, full disks, broken files, lost processes: what happens, written to docs/reliability.md; half an hour
# make faults-long  the same with 100,000 broken files, 5,000 images, a training in two processes and mutated code: an hour and a half
# make lint   ruff and mypy, as the pre-commit file and CI run them
# make docs   the documentation as a site, in work_dirs/site; a warning is an error
# make bench  environment, then speed and memory against the alternatives: tables on the screen, the rest in work_dirs/benchmarks
# make test WORKERS=8      in eight processes instead of two, each with about 1.5 GB
# PYTHON=python3.13 make ... chooses the interpreter (3.10 to 3.14)
# make test STACK=onedl      the onedl forks of OpenMMLab, in .venv-onedl
# make test STACK=oldest     the oldest versions that are supported, in .venv-oldest (PYTHON=python3.10)

STACK := openmmlab
WORKERS := 2
SUITE := tests -n $(WORKERS) --dist loadfile
VENV := .venv$(if $(filter-out openmmlab,$(STACK)),-$(STACK))
PY := $(VENV)/bin/python
DIGITS := work_dirs/instancenet_digits
NUCLEI := mmseg_instancenet/shipped_models/nuclei_example.png

.PHONY: env demo test coverage zoo fuzz faults faults-long lint format docs bench

env:
	@bash tools/make_environment.sh $(STACK)

demo: env
	$(PY) tools/predict.py nuclei $(NUCLEI) --out work_dirs/nuclei
	@echo "nuclei found: work_dirs/nuclei/overlays/nuclei_example.png; count and sizes: images.csv and objects.csv beside it"
	$(PY) tools/train.py configs/instancenet_digits.py --amp
	$(PY) tools/test.py configs/instancenet_digits.py $(DIGITS)/epoch_6.pth --show-dir $(DIGITS)/images
	@echo "images (input, class map, embedding, instances, ground truth): $(DIGITS)/images"

# Several processes with several threads each would wait for one another.
test coverage: export OMP_NUM_THREADS := 1

test: env
	$(PY) -m pytest --doctest-modules mmseg_instancenet
	$(PY) -m pytest $(SUITE)

coverage: env
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest --doctest-modules mmseg_instancenet
	$(PY) -m coverage run -m pytest $(SUITE)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report
	@mkdir -p work_dirs
	$(PY) -m coverage json --quiet -o work_dirs/coverage.json
	$(PY) tests/coverage_floors.py work_dirs/coverage.json

zoo: env
	$(PY) tests/zoo.py

fuzz: env
	$(PY) tests/datasets/annotations/fuzzer.py 20000

faults: env
	PYTHONPATH=tests $(PY) -m faults

faults-long: env
	PYTHONPATH=tests $(PY) -m faults --long

lint: env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: env
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

# From nothing, since Sphinx leaves pages of files that are gone.
docs: env
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	rm -rf work_dirs/site
	$(PY) -m sphinx -q -E -W --keep-going -c docs . work_dirs/site
	@echo "the site: work_dirs/site/index.html"

bench: env
	$(PY) -m benchmarks
