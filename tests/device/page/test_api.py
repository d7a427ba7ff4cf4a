"""The interface for programs: the daemon's own records, as openapi.json describes them."""

from __future__ import annotations

import csv
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

import device.page
from device.page.history import HOUR_COLUMNS
from device.page.live import jpeg
from device.page.stream import MAX_CLIENTS
from device.records import Command, Event, Health, Info, Report, Verb
from device.standards import own_profile
from tests.device.page.served import PATIENCE_S, Served, Showing, events, until
from tests.device.telemetry.test_log_sink import EVENT, INFO
from tests.device.telemetry.test_metrics import FULL, HEALTH

DESCRIBED: dict[str, Any] = json.loads((Path(device.page.__path__[0]) / "static" / "openapi.json").read_text("utf-8"))


def check(content: Any, name: str) -> None:
    """Raises where it is not what the description says."""
    jsonschema.validate(content, {"$ref": f"#/components/schemas/{name}", "components": DESCRIBED["components"]})


def described(path: str, status: int) -> tuple[str, dict[str, Any]]:
    ((kind, content),) = DESCRIBED["paths"][path]["get"]["responses"][str(status)]["content"].items()
    return kind, content["schema"]


READ = [path for path, does in DESCRIBED["paths"].items() if "get" in does and not path.endswith("events")]


@pytest.mark.parametrize("path", READ)
def test_every_described_path_answers_as_described(served: Served, path: str) -> None:
    answer = served.ask(path)
    kind, schema = described(path, answer.status)
    assert answer.status == 200 and answer.headers["content-type"].startswith(kind)
    if kind == "application/json":
        jsonschema.validate(answer.json, schema | {"components": DESCRIBED["components"]})


@pytest.mark.parametrize(("name", "record"), [("Report", Report), ("Event", Event), ("Health", Health), ("Info", Info)])
def test_the_description_has_every_key_of_the_records(name: str, record: type) -> None:
    assert list(DESCRIBED["components"]["schemas"][name]["properties"]) == [field.name for field in fields(record)]


def test_records_are_the_same_json_as_everywhere(served: Served) -> None:
    assert served.ask("/api/report").json == FULL.to_dict()
    assert served.ask("/api/health").json == HEALTH.to_dict()
    assert served.ask("/api/info").json == INFO.to_dict()
    assert served.ask("/api/page").json["events"] == [EVENT.to_dict()]


def test_own_limits_follow_a_reload(served: Served) -> None:
    served.page.set_limits(own_profile(50.0, -70.0))
    assert served.ask("/api/page").json["profiles"]["own"]["detectable_late_ms"] == -70.0


def test_metrics_are_those_of_the_file(served: Served) -> None:
    text = served.ask("/metrics").body.decode()
    assert "avdrift_offset_seconds 0.1235" in text and 'avdrift_events_total{kind="verdict"} 1.0' in text


def test_before_the_first_report_there_is_none_and_it_is_not_well(serve: Callable[..., Served]) -> None:
    page = serve().opened()
    assert page.ask("/api/report").status == page.ask("/api/health").status == 503
    assert page.ask("/healthz").status == 503


def test_healthz_says_only_whether_all_is_well(served: Served) -> None:
    assert served.ask("/healthz", token=None).json == {"ok": True}
    served.page.report(replace(FULL, fault="camera_lost"))
    answer = served.ask("/healthz", token=None)
    assert (answer.status, answer.json) == (503, {"ok": False})


def test_history_since_a_time_has_only_what_came_after(served: Served) -> None:
    for k in range(1, 4):
        served.page.report(replace(FULL, t_unix_ms=FULL.t_unix_ms + k))
    rows = served.ask(f"/api/history?since={FULL.t_unix_ms + 1}").json["hour"]["rows"]
    assert [row[0] - FULL.t_unix_ms for row in rows] == [2, 3]
    assert served.ask("/api/history?since=-1").status == served.ask("/api/history?since=x").status == 400


def test_the_hour_as_a_table(served: Served) -> None:
    (row,) = csv.DictReader(served.ask("/api/history.csv").body.decode().splitlines())
    assert tuple(row) == HOUR_COLUMNS and row["offset_ms"] == "123.5" and row["fault"] == ""


def test_a_picture_is_small_and_comes_only_when_asked_for(served: Served) -> None:
    assert served.page.view.frame is None
    picture = cv2.imdecode(np.frombuffer(served.ask("/api/picture.jpg").body, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (240, 320, 3)


@pytest.mark.parametrize(
    ("size", "smaller"), [((480, 640), (240, 320)), ((1081, 1921), (135, 240)), ((6, 361), (3, 180))]
)
def test_a_picture_is_halved_until_a_phone_is_wide_enough_for_it(
    size: tuple[int, int], smaller: tuple[int, int]
) -> None:
    picture = cv2.imdecode(np.frombuffer(jpeg(np.full((*size, 3), 90, np.uint8)), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None and picture.shape == smaller and abs(int(picture[1, 1]) - 90) <= 2


def test_the_stream_begins_with_what_is_known_and_goes_on_live(served: Served) -> None:
    seen: dict[str, dict[str, Any]] = {}
    with served.stream() as stream:
        for kind, content in events(stream):
            seen[kind] = content
            if {"report", "health", "info", "live", "curve"} <= set(seen):
                break
    assert seen["report"] == FULL.to_dict()
    check(seen["live"], "Live")
    check(seen["curve"], "Curve")
    assert seen["live"]["picture"] and seen["live"]["peak_db"] == -6.0 and not seen["live"]["clipped"]
    face = {"box": [0.25, 0.25, 0.5, 0.5], "mouth": [0.375, 0.5, 0.25, 0.25], "speaker": True}
    assert seen["live"]["faces"] == [face]


def test_new_records_come_over_the_stream(served: Served) -> None:
    with served.stream("/api/events") as stream:
        coming = events(stream)
        assert [next(coming)[0] for _ in range(3)] == ["info", "health", "report"]
        served.page.report(replace(FULL, seq=8))
        served.page.event(replace(EVENT, seq=9))
        found = [(kind, content["seq"]) for kind, content in (next(coming), next(coming))]
    assert found == [("report", 8), ("event", 9)]


def test_new_records_come_beside_what_is_live(served: Served) -> None:
    with served.stream() as stream:
        coming = events(stream)
        next(kind for kind, _ in coming if kind == "live")
        served.page.report(replace(FULL, seq=8))
        assert next(content["seq"] for kind, content in coming if kind == "report") == 8
        assert next(kind for kind, _ in coming if kind == "live")


def test_an_old_client_gets_the_stream_without_chunks(served: Served) -> None:
    request = f"GET /api/events HTTP/1.0\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {served.token}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), PATIENCE_S) as client:
        client.sendall(request.encode())
        got = b""
        while b"event: report" not in got:
            got += client.recv(65_536)
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower() and body.startswith(b"retry: 2000\n\nevent: info\n")


def test_the_head_of_the_stream_comes_without_it(served: Served) -> None:
    answer = served.ask("/api/events", "HEAD")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream") and not answer.body


@pytest.mark.parametrize(("pictures", "faces", "picture"), [("boxes", 1, False), ("off", 0, False)])
def test_pictures_that_are_off_stay_on_the_device(
    serve: Callable[..., Served], pictures: str, faces: int, picture: bool
) -> None:
    page = serve(pictures=pictures).opened().tell()
    showing = Showing(page.page)
    threading.Thread(target=showing, daemon=True).start()
    with page.stream() as stream:
        lives = (content for kind, content in events(stream) if kind == "live")
        next(lives)
        found = next(live for live in lives if len(live["faces"]) == faces)
    showing.stop()
    assert (found["picture"] is not None) == picture
    assert page.ask("/api/picture.jpg").status == 404


def test_nothing_is_stored_while_nobody_watches_nor_afterwards(served: Served) -> None:
    with served.stream() as stream:
        next(kind for kind, _ in events(stream) if kind == "live")
        assert served.page.view.is_watched(time.monotonic_ns()) and served.page.viewers == 1
    until(lambda: served.page.viewers == 0, "the client that has gone is noticed")
    until(lambda: served.page.view.frame is None, "the last picture is let go of")


def test_at_most_so_many_pages_at_the_same_time(served: Served) -> None:
    streams = [served.stream("/api/events") for _ in range(MAX_CLIENTS)]
    for one in streams:
        assert one.__enter__().status == 200
    assert served.ask("/api/events").status == 503
    for one in streams:
        one.__exit__(None, None, None)


# Commands


def test_a_command_is_carried_out_and_its_result_is_the_answer(served: Served) -> None:
    taken: list[Command] = []

    def submit(command: Command) -> None:
        taken.append(command)
        command.reply({"verb": command.verb.value, "ok": True, "error": None, "profile": command.args["profile"]})

    served.page.submit_to(submit)
    body = b'{"profile": "ebu-r37", "id": 3}'
    until(lambda: served.ask("/api/command/set-profile", "POST", body=body).status == 200, "commands are taken")
    answer = served.ask("/api/command/set-profile", "POST", body=body)
    assert answer.json == {"verb": "set-profile", "id": 3, "ok": True, "error": None, "profile": "ebu-r37"}
    assert taken[-1].verb is Verb.SET_PROFILE


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("explode", b"{}", 409), ("set-profile", b'{"profile": "loud"}', 409), ("diagnostics", b"[", 409),
        ("diagnostics", b"x" * 5000, 413), ("..%2f..", b"", 404),
    ],
)  # fmt: skip
def test_commands_that_are_none(served: Served, verb: str, body: bytes, status: int) -> None:
    answer = served.ask(f"/api/command/{verb}", "POST", body=body)
    assert answer.status == status and answer.json["error"]
