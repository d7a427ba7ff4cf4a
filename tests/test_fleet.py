"""docs/fleet.md, as it stands there: 20 nodes at a site, whose broker passes on what they say and takes no commands."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path

from device.telemetry.mqtt.sink import MqttSink
from tests.brokers import FAST, Mosquitto, needs_mosquitto, report, settings, wait_until
from tests.scenes import ROOT

pytestmark = needs_mosquitto
NODES = [f"studio-{number}" for number in range(20)]


def bridge(center_port: int) -> str:
    """The page's configuration, to a center on loopback that knows no passwords and no TLS."""
    (text,) = re.findall(r"```\n(connection center\n.*?)```", (ROOT / "docs/fleet.md").read_text(), re.DOTALL)
    kept = [line for line in text.splitlines() if not line.startswith(("remote_", "bridge_cafile"))]
    return "\n".join(kept).replace("center.example:8883", f"127.0.0.1:{center_port}") + "\nallow_anonymous true"


def test_the_center_sees_twenty_nodes_and_commands_none_of_them(tmp_path: Path) -> None:
    with ExitStack() as stack:
        center = stack.enter_context(Mosquitto(tmp_path / "center"))
        site = stack.enter_context(Mosquitto(tmp_path / "site", bridge(center.port)))
        commands: list[object] = []
        for number, node in enumerate(NODES):
            configured = settings(site.port, node=node, topic_prefix="avdrift")
            sink = MqttSink(configured, report_every_s=1.0, folder=tmp_path, backoff=FAST)
            stack.callback(sink.close)
            sink.submit_to(commands.append)
            sink.report(report(number, offset_ms=float(number)))

        def states() -> dict[str, str]:
            return center.retained("avdrift/+/state")

        wait_until(lambda: len(states()) == len(NODES), "the reports at the center")
        assert {topic.split("/")[1]: json.loads(text)["offset_ms"] for topic, text in states().items()} == {
            node: float(number) for number, node in enumerate(NODES)
        }
        assert set(center.retained("avdrift/+/availability").values()) == {"online"}
        center.publish(f"avdrift/{NODES[0]}/cmd/diagnostics", "{}")
        site.publish(f"avdrift/{NODES[1]}/cmd/diagnostics", "{}")
        wait_until(lambda: commands, "the command of the site")
        assert len(commands) == 1
