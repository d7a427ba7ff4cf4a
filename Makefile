# avdrift on a bare Debian 12, Debian 13 or Raspberry Pi OS: python3, pip, make and git are enough to begin with.
#
# One virtual environment. `make run` puts only the device's packages into it; `make test` adds TensorFlow and the tools, all
# in the versions and with the hashes of requirements/, which `make lock` writes. Stamp files in it remember what was
# installed; their names carry the checksum of pyproject.toml and of these files, so that a changed file installs again, and
# a merely touched one does not ask for the network.

PYTHON   ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
VENV     ?= .venv
SOURCE   ?= device/models/sample.mkv
UPGRADE  ?=
PYTEST_ARGS ?=
# More than cores: many tests wait for a server, a process or real time.
WORKERS  ?= $(shell expr $$(nproc) + 2)
HA_PYTHON ?= python3.13

PY       := $(VENV)/bin/python
PIP      := $(PY) -m pip --disable-pip-version-check --no-input
SUM      := $(shell cat pyproject.toml requirements/*.txt requirements/*/*.txt | cksum | cut -d' ' -f1)
MADE     := $(VENV)/.made
RUN_SET  := $(VENV)/.installed-run-$(SUM)
TEST_SET := $(VENV)/.installed-test-$(SUM)

# tests/conftest.py says which worker gets what.
TESTS    := $(PY) -m pytest -n $(WORKERS) --no-loadscope-reorder

# The core: what is measured from arrays, and the rules of the house.
QUICK    := tests/device/features tests/device/sync tests/device/towers tests/repository/test_docs.py tests/repository/test_house.py

# The speech synthesizer of the synthetic clips and the signing of bundles have no wheels.
ESPEAK_FOUND = $(PY) -c 'import ctypes; ctypes.CDLL("libespeak-ng.so.1")' 2>/dev/null
SSH_KEYGEN_FOUND = command -v ssh-keygen >/dev/null
# Tests that need one of these are left out without it. Some packages start servers, so only build machines get them.
WANTED_PROGRAMS := sshd ssh rsync mosquitto mosquitto_sub openssl shellcheck ffmpeg
WANTED_PACKAGES := openssh-server openssh-client rsync mosquitto mosquitto-clients openssl shellcheck ffmpeg
MISSING_PROGRAMS = $$(PATH="$$PATH:/usr/sbin"; for program in $(WANTED_PROGRAMS); do \
	command -v $$program >/dev/null || printf ' %s' $$program; done)

# A real RTSP server, for Debian's own Python; only build machines get it.
RTSP_FOUND = /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null
RTSP_PACKAGES = gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad python3-gi

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run setup test test-all test-quick test-devices test-aarch64 test-homeassistant soak soak-streams setup-test mutants lint format docs \
	lock outdated release test-packages install uninstall clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1 # /p' $(MAKEFILE_LIST) | sed 's/#/\t/' | expand -t 28

run: setup ## set up the device side and measure the built-in sample at real-time pace (SOURCE=FILE for another)
	@$(VENV)/bin/avdrift run --source $(SOURCE)

setup: $(RUN_SET) ## only the device side's set-up, with the face detector's model
	@$(PY) -m device.features.model_download >&2

# $(call check,OPTIONS,THEN;): all three run even when one fails, and pytest's summary comes last.
define check
status=0; \
$(PY) -m ruff check . || status=1; \
$(PY) -m mypy || status=1; \
$(TESTS) $(1) $(PYTEST_ARGS) || status=$$?; \
$(2) exit $$status
endef

test: setup-test ## lint, type check and the tests, without the long proofs
	@$(call check,-m "not slow")

test-all: setup-test ## lint, type check and all tests, with coverage of lines and branches
	@$(call check,--cov --cov-report=,echo "coverage of lines and branches: $$($(PY) -m coverage report --format=total) %";)

test-quick: $(TEST_SET) ## lint and the tests of the core only
	@$(PY) -m ruff check .
	@$(TESTS) -m "not slow" $(PYTEST_ARGS) $(QUICK)

# Each check runs in a Debian tree of its own, with a virtual camera and a null sink; the first call makes that tree.
test-devices: ## the real camera and microphone libraries on virtual devices (as root, with debootstrap; 6 minutes)
	@tests/devices/tree.sh env LD_PRELOAD=/opt/dma_shim.so \
		python -m pytest -p no:cacheprovider $(PYTEST_ARGS) tests/devices/check_*.py

# Emulated, so it says nothing of speed; the first call makes two trees of 1.3 GB.
test-aarch64: setup ## the built-in models and the device's own tests on ARM, Python 3.11 and 3.13 (as root, with debootstrap; an hour)
	@VENV=$(VENV) tests/aarch64/run.sh

test-homeassistant: setup-test ## ask Home Assistant itself what it reads (needs Python 3.13: HA_PYTHON=/path/to/it)
	@$(PY) -m tests.homeassistant.check --python $(HA_PYTHON)

lint: $(TEST_SET) ## lint and type check only
	@$(PY) -m ruff check .
	@$(PY) -m mypy

format: $(TEST_SET) ## format the code, and mend what ruff can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(TEST_SET) ## the documentation as a site, in site/; every link is checked
	@$(PY) -m tools.reference
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict
	@echo "open site/index.html"

lock: $(TEST_SET) ## write requirements/ from pyproject.toml (UPGRADE=1: with the newest versions that it allows)
	@PYTHON=$(PY) tools/lock.sh $(if $(UPGRADE),--upgrade)

outdated: $(TEST_SET) ## print which locked packages are behind
	@PYTHON=$(PY) tools/outdated.sh

mutants: setup-test ## how many of 200 random mutants of the core the tests kill
	@$(PY) -m tests.mutants --show

release: $(TEST_SET) ## wheel, source, lists of packages, notes and checksums of a tagged version, in dist/
	@PYTHON=$(PY) tools/release.sh

soak: setup-test ## 2,000 scripted faults through the whole daemon on simulated time (12 minutes)
	@$(PY) -m tests.scripted.soak --times 50

soak-streams: setup-test ## 1,600 scripted faults of streams, seven at once in real time, with real servers (an hour and a half)
	@$(PY) -m tests.scripted.streams.soak --times 50

setup-test: setup $(TEST_SET) test-packages ## only what the tests need

install: ## install or upgrade the service (as root: sudo make install)
	@./systemd/install.sh

uninstall: ## remove the service; configuration and models stay (as root)
	@./systemd/install.sh --uninstall

clean: ## remove everything that was made here
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache .coverage mutants
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's python3 has no ensurepip without python3-venv; its pip can fill an empty environment from outside, so neither
# root nor another package is needed. Only where even pip is missing does apt have to help.
$(MADE):
	@test -n "$(PYTHON)" || { echo "avdrift needs Python 3.11, 3.12 or 3.13: install one, or run make PYTHON=/path/to/python3" >&2; exit 1; }
	@if $(PY) -m pip --version >/dev/null 2>&1; then :; \
	elif $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then $(PYTHON) -m venv --clear $(VENV); \
	elif $(PYTHON) -m venv --clear --without-pip $(VENV) 2>/dev/null \
		&& $(PYTHON) -m pip --disable-pip-version-check --python $(PY) install --quiet --require-hashes -r requirements/build.txt; then :; \
	else $(call apt_install,python3-venv) && $(PYTHON) -m venv --clear $(VENV); fi
	@touch $@

# An upgrade of the system may have taken the interpreter away from under the environment.
ifneq ($(shell test -x $(PY) && echo yes),yes)
.PHONY: $(MADE)
endif

# $(call install,SET): the packages of requirements/SET for this Python and processor, then avdrift itself. pip installs no
# folder by its hash, so that avdrift comes last and by itself; what builds it is locked as well.
define install
@lock=requirements/$(1)/$$($(PY) tools/lock_file.py) && export PYTHONWARNINGS=ignore \
&& $(PIP) install --quiet --require-hashes --only-binary :all: -r requirements/build.txt \
&& $(PIP) install --quiet --require-hashes --only-binary :all: -r $$lock \
&& $(PIP) install --quiet --no-deps --no-build-isolation --editable .
endef

$(RUN_SET): $(MADE)
	@echo "avdrift: installing the device's packages into $(VENV)" >&2
	$(call install,run)
	@rm -f $(VENV)/.installed-run-* && touch $@

$(TEST_SET): $(RUN_SET)
	@echo "avdrift: installing TensorFlow and the tools into $(VENV): about 2 GB, some minutes" >&2
	$(call install,test)
	@rm -f $(VENV)/.installed-test-* && touch $@

test-packages: $(TEST_SET)
	@$(PY) -m train.data.landmarks >/dev/null
	@$(ESPEAK_FOUND) || { $(call apt_install,libespeak-ng1); }
	@$(SSH_KEYGEN_FOUND) || { $(call apt_install,openssh-client); }
	@[ -z "$$CI" ] || [ -z "$(MISSING_PROGRAMS)" ] || { $(call apt_install,$(WANTED_PACKAGES)); }
	@[ -z "$$CI" ] || $(RTSP_FOUND) || { $(call apt_install,$(RTSP_PACKAGES)); }
	@missing="$(MISSING_PROGRAMS)"; [ -z "$$missing" ] \
		|| echo "avdrift: leaving out the tests that need$$missing (Debian: apt-get install $(WANTED_PACKAGES))" >&2

# $(call apt_install,PACKAGES): as root, through sudo, or a sentence that says what to do.
define apt_install
if ! command -v apt-get >/dev/null; then echo "avdrift: please install $(1) with this system's package manager" >&2; exit 1; fi; \
if [ "$$(id -u)" = 0 ]; then as_root=env; \
elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then as_root=sudo; \
else echo "avdrift: please run, as root: apt-get install $(1)   and then make again" >&2; exit 1; fi; \
echo "installing Debian packages: $(1)"; \
{ $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) </dev/null >/dev/null 2>&1 \
|| { $$as_root apt-get update -qq </dev/null && $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) </dev/null >/dev/null; }; }
endef
