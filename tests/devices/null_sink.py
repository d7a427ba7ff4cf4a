"""A microphone without a sound card: PulseAudio with a null sink, whose monitor ALSA shows as the device `avmic`.

Needs pulseaudio, pulseaudio-utils and libasound2-plugins. Root will do, no sound card is needed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

DEVICE = "avmic"
RATE_HZ = 48_000
_START_S = 30


class NullSink:
    """A running PulseAudio with one sink called avnull; whatever is played there is heard by `avmic`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "native"
        (folder / "default.pa").write_text(
            f"load-module module-native-protocol-unix auth-anonymous=1 socket={self._socket}\n"
            f"load-module module-null-sink sink_name=avnull rate={RATE_HZ} channels=2\n"
        )
        (folder / "asound.conf").write_text(
            "</usr/share/alsa/alsa.conf>\n"
            f'pcm.{DEVICE} {{ type pulse device "avnull.monitor" server "unix:{self._socket}" '
            'hint { show on description "test" } }\n'
        )
        self.server = f"unix:{self._socket}"
        self._environment = os.environ | {
            "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_SERVER": self.server,
        }  # fmt: skip
        self._server: subprocess.Popen[bytes] | None = None
        self._players: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        command = ["pulseaudio", "-n", "--exit-idle-time=-1", "--daemonize=no", "-F", str(self._folder / "default.pa")]
        self._socket.unlink(missing_ok=True)
        with (self._folder / "pulseaudio.log").open("ab") as log:
            self._server = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        end_s = time.monotonic() + _START_S
        while subprocess.run(["pactl", "info"], env=self._environment, capture_output=True, check=False).returncode:
            assert time.monotonic() < end_s, (self._folder / "pulseaudio.log").read_text()
            time.sleep(0.1)

    def play(self, samples: npt.NDArray[np.float32]) -> None:
        """Begin to play mono samples at RATE_HZ; returns at once."""
        path = self._folder / f"play{len(self._players)}.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        self._players.append(subprocess.Popen(["paplay", "--device=avnull", str(path)], env=self._environment))

    def signal(self, number: signal.Signals) -> None:
        assert self._server
        self._server.send_signal(number)

    def kill(self) -> None:
        """The server goes as a sound card goes that is pulled out."""
        for process in (self._server, *self._players):
            if process is not None and process.poll() is None:
                process.kill()
            if process is not None:
                process.wait(_START_S)
        self._server, self._players = None, []


@contextmanager
def null_sink(folder: Path) -> Iterator[NullSink]:
    """One that runs; this process's ALSA finds it."""
    assert shutil.which("pulseaudio") and shutil.which("paplay"), "apt install pulseaudio pulseaudio-utils"
    sink = NullSink(folder)
    before = os.environ.get("ALSA_CONFIG_PATH")
    os.environ["ALSA_CONFIG_PATH"] = str(folder / "asound.conf")
    sink.start()
    try:
        yield sink
    finally:
        sink.kill()
        os.environ.pop("ALSA_CONFIG_PATH")
        if before is not None:
            os.environ["ALSA_CONFIG_PATH"] = before
