"""The daemon's records besides its reports: Info when it changes, and Health once a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from device import __version__
from device.clock import Clock
from device.records import NS_PER_S, Info
from device.reporting.health import EVERY_S, HealthMonitor
from device.reporting.model_record import ModelRecords
from device.reporting.reporter import SCHEMA
from device.reporting.sink import Sink
from device.runtime.core import Core
from device.runtime.inputs.source_thread import Reader
from device.state.rig import Rig, applies

_log = logging.getLogger(__name__)


class Status:
    """Checks the sources and the computer regularly. The rig's offset applies only to the rig it was found on."""

    def __init__(
        self, core: Core, sink: Sink, clock: Clock, monitor: HealthMonitor, rig: Rig | None,
        events_lost: Callable[[], int], records: ModelRecords,
    ) -> None:  # fmt: skip
        self._core, self._sink, self._clock, self._monitor = core, sink, clock, monitor
        self._rig, self._events_lost, self._records = rig, events_lost, records
        self._readers: Sequence[Reader] = ()
        self._devices: dict[str, str | None] = {}
        self._next_ns = clock.now_ns()

    def begin(self, readers: Sequence[Reader]) -> None:
        self._readers, self._next_ns = readers, self._clock.now_ns() + round(EVERY_S * NS_PER_S)
        self._core.reporter.rig = self._rig
        self.publish_info()

    def poll(self) -> None:
        """To be called a few times a second."""
        devices = {reader.part: reader.device for reader in self._readers}
        if devices != self._devices:
            self._devices = devices
            self.use_rig(self._rig)
        now_ns = self._clock.now_ns()
        if now_ns >= self._next_ns:
            self._next_ns = now_ns + round(EVERY_S * NS_PER_S)
            self._publish_health()

    def use_rig(self, rig: Rig | None) -> None:
        """Subtract this rig's own offset from reports, if its camera and microphone are the open ones."""
        self._rig = rig
        camera, microphone = self._named("camera"), self._named("microphone")
        fits = rig is not None and applies(rig, camera or rig.camera, microphone or rig.microphone)
        if rig is not None and not fits:
            _log.warning(
                "%s with %s is not the rig that was calibrated (%s with %s): its own offset stays in the reports",
                camera, microphone, rig.camera, rig.microphone,
            )  # fmt: skip
        self._core.reporter.rig = rig if fits else None
        self.publish_info()

    def publish_info(self) -> None:
        core, rig = self._core, self._core.reporter.rig
        self._sink.info(
            Info(
                schema=SCHEMA,
                version=__version__,
                model=core.bundle.label,
                model_digest=core.bundle.digest,
                profile=core.reporter.profile,
                camera=self._named("camera"),
                microphone=self._named("microphone"),
                bias_ms=rig.bias_ms if rig else None,
                bias_std_ms=rig.bias_std_ms if rig else None,
            )
        )

    def _named(self, part: str) -> str | None:
        """The device name of the open source; a stream is both camera and microphone."""
        return self._devices.get(part) or self._devices.get("stream")

    def _publish_health(self) -> None:
        core = self._core
        known = {reader.part: reader for reader in self._readers}
        microphone, record = known.get("microphone"), self._records.current
        self._sink.health(
            self._monitor.read(
                **core.reporter.stamp(),
                video_rate_hz=core.read_video_rate_hz(),
                microphone_ppm=microphone.ppm if microphone else None,
                video_dropped=core.queue.video_dropped,
                audio_dropped=core.queue.audio_dropped,
                sources_reopened=sum(reader.reopened for reader in self._readers),
                events_lost=self._events_lost(),
                load_step=core.load.step,
                model_record=record.to_dict() if record else None,
            )
        )
