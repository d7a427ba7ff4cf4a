"""The topics on the broker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of a device: `avdrift/<node>/…`."""

    prefix: str
    node: str

    def _of(self, name: str) -> str:
        return f"{self.prefix}/{self.node}/{name}"

    @property
    def availability(self) -> str:
        return self._of("availability")

    @property
    def state(self) -> str:
        return self._of("state")

    @property
    def event(self) -> str:
        return self._of("event")

    @property
    def info(self) -> str:
        return self._of("info")

    @property
    def health(self) -> str:
        return self._of("health")

    def command(self, verb: str) -> str:
        return self._of(f"cmd/{verb}")

    def result(self, verb: str) -> str:
        return self._of(f"cmd/{verb}/result")

    @property
    def device_id(self) -> str:
        return f"avdrift_{self.node}"

    def discovery(self, prefix: str) -> str:
        return f"{prefix}/device/{self.device_id}/config"
