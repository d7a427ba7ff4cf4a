"""docs/fleet.md, as it stands there: 20 nodes at a site, whose broker passes on what they say and takes no commands.

And 20 nodes at two sites, whose metrics a Prometheus at the centre collects.
"""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote

import pytest

from device.config.settings import MetricsSettings
from device.telemetry.metrics_sink import MetricsSink
from device.telemetry.mqtt.sink import MqttSink
from tests.brokers import FAST, Mosquitto, needs_mosquitto, report, settings, wait_until
from tests.scenes import ROOT
from tests.streams.stream_servers import free_port, running

NODES = [f"studio-{number}" for number in range(20)]


def page() -> str:
    return (ROOT / "docs/fleet.md").read_text()


def bridge(centre_port: int) -> str:
    """The page's configuration, to a centre on loopback that knows no passwords and no TLS."""
    (text,) = re.findall(r"```\n(connection centre\n.*?)```", page(), re.DOTALL)
    kept = [line for line in text.splitlines() if not line.startswith(("remote_", "bridge_cafile"))]
    return "\n".join(kept).replace("centre.example:8883", f"127.0.0.1:{centre_port}") + "\nallow_anonymous true"


@needs_mosquitto
def test_the_centre_sees_twenty_nodes_and_commands_none_of_them(tmp_path: Path) -> None:
    with ExitStack() as stack:
        centre = stack.enter_context(Mosquitto(tmp_path / "centre"))
        site = stack.enter_context(Mosquitto(tmp_path / "site", bridge(centre.port)))
        commands: list[object] = []
        for number, node in enumerate(NODES):
            configured = settings(site.port, node=node, topic_prefix="avdrift")
            sink = MqttSink(configured, report_every_s=1.0, folder=tmp_path, backoff=FAST)
            stack.callback(sink.close)
            sink.submit_to(commands.append)
            sink.report(report(number, offset_ms=float(number)))

        def states() -> dict[str, str]:
            return centre.retained("avdrift/+/state")

        wait_until(lambda: len(states()) == len(NODES), "the reports at the centre")
        assert {topic.split("/")[1]: json.loads(text)["offset_ms"] for topic, text in states().items()} == {
            node: float(number) for number, node in enumerate(NODES)
        }
        assert set(centre.retained("avdrift/+/availability").values()) == {"online"}
        centre.publish(f"avdrift/{NODES[0]}/cmd/diagnostics", "{}")
        site.publish(f"avdrift/{NODES[1]}/cmd/diagnostics", "{}")
        wait_until(lambda: commands, "the command of the site")
        assert len(commands) == 1


class Prometheus:
    """A server with a configuration of the page, which scrapes these addresses instead, each second."""

    def __init__(self, stack: ExitStack, folder: Path, config: str, targets: Sequence[str]) -> None:
        folder.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        scraping, count = re.subn(r"targets: .*", f"targets: {json.dumps(targets)}", config)
        assert count == 1
        (folder / "prometheus.yml").write_text(f"global:\n  scrape_interval: 1s\n{scraping}")
        options = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data")
        stack.enter_context(running("prometheus", *options, f"--web.listen-address={self.address}"))

    def values(self, query: str) -> dict[str, float]:
        """By instance; nothing while it starts."""
        try:
            with urllib.request.urlopen(
                f"http://{self.address}/api/v1/query?query={quote(query)}", timeout=5
            ) as answer:
                found = json.load(answer)["data"]["result"]
        except URLError:
            return {}
        return {one["metric"]["instance"]: float(one["value"][1]) for one in found}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here: apt-get install prometheus")
def test_the_metrics_of_twenty_nodes_at_two_sites_come_to_the_centre(tmp_path: Path) -> None:
    at_site, at_centre = re.findall(r"```yaml\n(.*?)```", page(), re.DOTALL)
    with ExitStack() as stack:
        offsets_s = {}
        for number in range(len(NODES)):
            address = f"127.0.0.1:{free_port()}"
            sink = stack.enter_context(closing(MetricsSink(MetricsSettings(listen=address), report_every_s=60)))
            sink.report(report(number, offset_ms=float(number)))
            offsets_s[address] = number / 1000
        addresses = list(offsets_s)
        sites = [
            Prometheus(stack, tmp_path / name, at_site.replace("site: site-2", f"site: {name}"), part)
            for name, part in (("site-1", addresses[:10]), ("site-2", addresses[10:]))
        ]
        centre = Prometheus(stack, tmp_path / "centre", at_centre, [site.address for site in sites])
        wait_until(lambda: len(centre.values("avdrift_offset_seconds")) == len(NODES), "all metrics", every_s=0.5)
        assert centre.values("avdrift_offset_seconds") == pytest.approx(offsets_s)
        assert centre.values('avdrift_offset_seconds{site="site-2"}').keys() == set(addresses[10:])
