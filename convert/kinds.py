"""The kinds of bundles that a workstation can build and verify; devices run some of them."""

from __future__ import annotations

from dataclasses import replace

from device.bundles.model_kinds import DIRECT, TOWERS

# One window a run, but otherwise what towers are given and give; a device has no use for its cost.
SYNCNET = replace(TOWERS, name="syncnet")
KINDS = (TOWERS, DIRECT, SYNCNET)
