"""The kinds of bundles that a workstation can build and verify; devices run some of them."""

from __future__ import annotations

from dataclasses import replace

from device.bundles.model_kinds import DIRECT, TOWERS

# One window per run, otherwise with the input and output of the towers; too expensive for a device.
SYNCNET = replace(TOWERS, name="syncnet")
KINDS = (TOWERS, DIRECT, SYNCNET)
