# avdrift on a bare Debian 12, Debian 13 or Raspberry Pi OS: python3, pip, make and git are enough to begin with.
#
# One virtual environment. `make run` puts only the device's packages into it; `make test` adds TensorFlow and the tools.
# Stamp files in it remember what was installed; their names carry the checksum of pyproject.toml, so that a changed file
# installs again, and a merely touched one does not ask for the network.

PYTHON   ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo $$p; break; }; done)
VENV     ?= .venv
SOURCE   ?= device/models/sample.mkv
PYTEST_ARGS ?=
HA_PYTHON ?= python3.13

PY       := $(VENV)/bin/python
PIP      := $(PY) -m pip --disable-pip-version-check --no-input
SUM      := $(shell cksum pyproject.toml | cut -d' ' -f1)
MADE     := $(VENV)/.made
RUN_SET  := $(VENV)/.installed-run-$(SUM)
TEST_SET := $(VENV)/.installed-test-$(SUM)

# The speech synthesizer of the synthetic clips, the signing of bundles and the broker have no wheels.
ESPEAK_FOUND = $(PY) -c 'import ctypes; ctypes.CDLL("libespeak-ng.so.1")' 2>/dev/null
SSH_KEYGEN_FOUND = command -v ssh-keygen >/dev/null
# Bundles are deployed to devices on loopback. Debian's package opens port 22, so that only build machines get it: elsewhere
# these tests are skipped where it is missing.
SSHD_FOUND = (PATH="$$PATH:/usr/sbin"; command -v sshd && command -v ssh && command -v rsync) >/dev/null
# A broker as users have it; Debian puts it where not everybody looks.
MOSQUITTO_FOUND = (PATH="$$PATH:/usr/sbin"; command -v mosquitto && command -v mosquitto_sub && command -v openssl) >/dev/null

# Real senders of streams; large, so that only build machines get them.
FFMPEG_FOUND = command -v ffmpeg >/dev/null
RTSP_FOUND = /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null
RTSP_PACKAGES = gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-bad python3-gi

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run setup test test-devices test-aarch64 test-homeassistant soak setup-test lint test-packages install uninstall clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1 # /p' $(MAKEFILE_LIST) | sed 's/#/\t/' | expand -t 28

run: setup ## set up the device side and measure the built-in sample at real-time pace (SOURCE=FILE for another)
	@$(VENV)/bin/avdrift run --source $(SOURCE)

setup: $(RUN_SET) ## only the device side's set-up, with the face detector's model
	@$(PY) -m device.features.model_download >&2

# All three run even when one fails, and pytest's summary comes last.
test: setup-test ## lint, type check and all tests (PYTEST_ARGS="-m 'not slow'" for the quick ones)
	@status=0; \
	$(PY) -m ruff check . || status=1; \
	$(PY) -m mypy || status=1; \
	$(PY) -m pytest $(PYTEST_ARGS) || status=$$?; \
	exit $$status

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

soak: setup-test ## 2,000 scripted faults through the whole daemon on simulated time (12 minutes)
	@$(PY) -m tests.scripted.soak --times 50

setup-test: setup $(TEST_SET) test-packages ## only what the tests need

install: ## install or upgrade the service (as root: sudo make install)
	@./systemd/install.sh

uninstall: ## remove the service; configuration and models stay (as root)
	@./systemd/install.sh --uninstall

clean: ## remove everything that was made here
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's python3 has no ensurepip without python3-venv; its pip can fill an empty environment from outside, so neither
# root nor another package is needed. Only where even pip is missing does apt have to help.
$(MADE):
	@test -n "$(PYTHON)" || { echo "avdrift needs Python 3.11, 3.12 or 3.13: install one, or run make PYTHON=/path/to/python3" >&2; exit 1; }
	@if $(PY) -m pip --version >/dev/null 2>&1; then :; \
	elif $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then $(PYTHON) -m venv --clear $(VENV); \
	elif $(PYTHON) -m venv --clear --without-pip $(VENV) 2>/dev/null \
		&& $(PYTHON) -m pip --disable-pip-version-check --python $(PY) install --quiet pip; then :; \
	else $(call apt_install,python3-venv) && $(PYTHON) -m venv --clear $(VENV); fi
	@touch $@

# An upgrade of the system may have taken the interpreter away from under the environment.
ifneq ($(shell test -x $(PY) && echo yes),yes)
.PHONY: $(MADE)
endif

$(RUN_SET): $(MADE)
	@echo "avdrift: installing the device's packages into $(VENV)" >&2
	@PYTHONWARNINGS=ignore $(PIP) install --quiet --editable .
	@rm -f $(VENV)/.installed-run-* && touch $@

$(TEST_SET): $(RUN_SET)
	@echo "avdrift: installing TensorFlow and the tools into $(VENV): about 2 GB, some minutes" >&2
	@PYTHONWARNINGS=ignore $(PIP) install --quiet --editable '.[train,test]'
	@rm -f $(VENV)/.installed-test-* && touch $@

test-packages: $(TEST_SET)
	@$(PY) -m train.data.landmarks >/dev/null
	@$(ESPEAK_FOUND) || { $(call apt_install,libespeak-ng1); }
	@$(SSH_KEYGEN_FOUND) || { $(call apt_install,openssh-client); }
	@$(SSHD_FOUND) || [ -z "$$CI" ] || { $(call apt_install,openssh-server openssh-client rsync); }
	@$(FFMPEG_FOUND) || [ -z "$$CI" ] || { $(call apt_install,ffmpeg); }
	@$(RTSP_FOUND) || [ -z "$$CI" ] || { $(call apt_install,$(RTSP_PACKAGES)); }
	@$(MOSQUITTO_FOUND) || { $(call apt_install,mosquitto mosquitto-clients openssl); }

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
