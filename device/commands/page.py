"""The command `avdrift page`: prints the page's address with its token, and opens it to the network for a while."""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import time
from pathlib import Path

from device.commands.options.models import add_store_option, default_store
from device.config.constraints import Range
from device.config.file import DEFAULT_FILE, load_config
from device.config.settings import Config, PageSettings
from device.errors import TransportError, UsageError
from device.page import network
from device.page.token import read_token, token_file
from device.records import NS_PER_MS
from device.state.ownership import become_owner

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_FOR = Range(10, network.MAX_S)
_ANSWER_TIMEOUT_S = 5.0  # the daemon checks every two
_LOOPBACK = ("127.0.0.1", "::1")


def add_page_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    about = (
        "Prints the address of the page that the running avdrift shows, with its token, as text and as a QR code. "
        "Whoever has it sees what the camera sees, and may calibrate: keep it to yourself. Deleting the token's file "
        "makes a new one."
    )
    page = commands.add_parser("page", help="print the address of the page, for a browser", description=about)
    page.add_argument(
        "--for", dest="duration", metavar="TIME",
        help="open the page to the network for a while, such as 1h or 20m; 0 closes it",
    )  # fmt: skip
    page.add_argument("--config", type=Path, metavar="FILE", help=f"default: {DEFAULT_FILE}, where it is there")
    add_store_option(page)
    page.add_argument("--json", action="store_true", help="print one JSON object")


def page_command(options: argparse.Namespace) -> int:
    """Print the address. Raises UsageError, and TransportError if nothing answers there."""
    file = options.config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    settings = (load_config(file) if file else Config()).page
    if not settings.listen:
        remedy = f"Set listen under [page] in {file or DEFAULT_FILE}, for example to 127.0.0.1, and restart avdrift"
        raise UsageError("it is turned off", where="page", remedy=remedy)
    state_dir = options.store or default_store()
    become_owner(state_dir)
    if options.duration is not None:
        network.open_for(state_dir, _seconds(options.duration))
    token = read_token(token_file(settings, file.parent if file else Path(), state_dir))
    left_s = network.open_s(state_dir)
    on_network = left_s > 0 or settings.listen not in _LOOPBACK
    host = _host(settings, on_network=on_network)
    address = network.url(host, int(settings.port), token, tls=bool(settings.cert_file))
    if options.json:
        until_ms = round(time.time_ns() / NS_PER_MS + left_s * 1000) if left_s else None
        print(json.dumps({"address": address, "network": on_network, "until_unix_ms": until_ms}))
    else:
        _print(address, on_network=on_network, left_s=left_s)
    _require_answer(host, int(settings.port))
    return 0


def _host(settings: PageSettings, *, on_network: bool) -> str:
    if settings.name and on_network:
        return settings.name
    if settings.listen in ("0.0.0.0", "::") or (settings.listen in _LOOPBACK and on_network):
        return network.own_address() or "localhost"
    return settings.listen


def _print(address: str, *, on_network: bool, left_s: float) -> None:
    print(address)
    if on_network:
        import segno  # only here

        compact = (sys.stdout.encoding or "").lower().startswith("utf")
        segno.make(address, error="l").terminal(sys.stdout, compact=compact)
        if left_s:
            print(f"open to the network for {max(round(left_s / 60), 1)} minutes")
    else:
        print("on this computer only; for a phone: avdrift page --for 1h")


def _require_answer(host: str, port: int) -> None:
    """Raises TransportError."""
    end_s = time.monotonic() + _ANSWER_TIMEOUT_S
    while True:
        try:
            socket.create_connection((host, port), 1.0).close()
            return
        except OSError as error:
            if time.monotonic() > end_s:
                remedy = "Start avdrift (systemctl start avdrift); where it runs, its log says why there is no page"
                what = f"nothing answers there yet ({error.strerror or 'no answer'})"
                raise TransportError(what, where=f"{host} port {port}", remedy=remedy) from error
            time.sleep(0.2)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([smh])", text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if text != "0" and not _FOR.allows(seconds):
        raise UsageError(f"{text!r} is not possible", where="--for", remedy="Give 10s to 24h, such as 20m or 1h, or 0")
    return seconds
