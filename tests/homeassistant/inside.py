"""Runs in Home Assistant's own environment: its core with its MQTT integration, steered by lines on standard input.

`states` prints all entities as one JSON object, `press ENTITY` and `select ENTITY OPTION` do what a person would do,
`devices` prints what the device registry has; the end of the input ends it. Nothing of avdrift is imported here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from homeassistant import bootstrap, config_entries, core, loader
from homeassistant.core_config import async_process_ha_core_config
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.setup import async_setup_component


async def started(folder: Path, port: int, http_port: int) -> core.HomeAssistant:
    """A minimal Home Assistant whose user has just entered the broker's address."""
    (folder / "configuration.yaml").write_text("")
    hass = core.HomeAssistant(str(folder))
    loader.async_setup(hass)
    hass.config.skip_pip = True
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await loader.async_get_custom_components(hass)
    await bootstrap.async_load_base_functionality(hass)
    for name in ("homeassistant", "persistent_notification"):
        assert await async_setup_component(hass, name, {}), name
    await async_process_ha_core_config(hass, {})
    http = {"http": {"server_host": "127.0.0.1", "server_port": http_port}}
    assert await async_setup_component(hass, "http", http)
    assert await async_setup_component(hass, "mqtt", {})
    await hass.async_start()
    flow = hass.config_entries.flow
    form = await flow.async_init("mqtt", context={"source": "user"})
    result = await flow.async_configure(form["flow_id"], {"broker": "127.0.0.1", "port": port})
    assert result["type"] == "create_entry", result
    return hass


def states(hass: core.HomeAssistant) -> dict[str, Any]:
    """All entities, also those that begin disabled, by the end of their unique id."""
    found = {}
    for entry in entity_registry.async_get(hass).entities.values():
        state = hass.states.get(entry.entity_id)
        found[entry.unique_id] = {
            "entity_id": entry.entity_id,
            "platform": entry.domain,
            "category": entry.entity_category,
            "disabled": entry.disabled,
            "state": state.state if state else None,
            "attributes": dict(state.attributes) if state else {},
        }
    return found


def devices(hass: core.HomeAssistant) -> list[dict[str, Any]]:
    return [
        {
            "name": device.name, "model": device.model, "manufacturer": device.manufacturer,
            "sw_version": device.sw_version, "identifiers": sorted(map(list, device.identifiers)),
        }
        for device in device_registry.async_get(hass).devices.values()
    ]  # fmt: skip


async def lines() -> AsyncIterator[list[str]]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().split()


async def main(port: int, http_port: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hass = await started(Path(folder), port, http_port)
        print(json.dumps({"started": True}), flush=True)
        async for command, *rest in lines():
            answer: Any = {}
            if command == "states":
                answer = states(hass)
            elif command == "devices":
                answer = devices(hass)
            elif command == "press":
                await hass.services.async_call("button", "press", {"entity_id": rest[0]}, blocking=True)
            elif command == "select":
                option = {"entity_id": rest[0], "option": rest[1]}
                await hass.services.async_call("select", "select_option", option, blocking=True)
            print(json.dumps(answer, default=str), flush=True)
        await hass.async_stop(force=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
