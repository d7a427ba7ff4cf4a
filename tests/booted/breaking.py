"""Checks of what the service does when things break. Each returns what it saw, or raises."""

from __future__ import annotations

import re
import signal
import time

from tests.booted.nspawn import Machine, wait_until
from tests.booted.service import (
    CONFIG,
    DROP_IN,
    LIMIT_S,
    SETTINGS,
    STATE,
    journal,
    measuring,
    pid,
    refuses,
    restart,
    shown,
    within_limit,
)


def check_killed(m: Machine) -> str:
    times_s = []
    for _ in range(3):
        before = pid(m)
        m.run("systemctl", "kill", "--signal=KILL", "avdrift")
        times_s.append(measuring(m, besides=before))
    return within_limit(max(times_s), f"kill -9 three times, {', '.join(f'{t:.1f}' for t in times_s)} s")


def check_stopped(m: Machine) -> str:
    """Longer than the watchdog waits, it is another process that measures afterwards; for less, the same."""
    before, since_s = pid(m), time.time()
    m.run("systemctl", "kill", f"--signal={int(signal.SIGSTOP)}", "avdrift")
    time.sleep(5)
    m.run("systemctl", "kill", f"--signal={int(signal.SIGCONT)}", "avdrift")
    time.sleep(5)
    assert pid(m) == before
    measuring(m)
    m.run("systemctl", "kill", f"--signal={int(signal.SIGSTOP)}", "avdrift")
    killed_s = wait_until(lambda: pid(m) not in (0, before), 60, "the watchdog")
    assert "Watchdog timeout" in journal(m, since_s), journal(m, since_s)
    return f"SIGSTOP: ended after {killed_s:.1f} s; " + within_limit(measuring(m, besides=before), "then")


def check_memory(m: Machine) -> str:
    m.write(DROP_IN, "[Service]\nMemoryMax=40M\n")
    m.run("systemctl", "daemon-reload")
    m.run("systemctl", "restart", "avdrift", check=False, timeout_s=200)
    wait_until(lambda: int(shown(m, "NRestarts")) >= 2, 120, "the second restart")
    m.path(DROP_IN).unlink()
    m.run("systemctl", "daemon-reload")
    return within_limit(measuring(m), f"restarted {shown(m, 'NRestarts')} times in 40 MB; with the limit back")


def check_full_disk(m: Machine) -> str:
    m.run("systemctl", "stop", "avdrift")
    m.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", STATE)
    m.run("dd", "if=/dev/zero", f"of={STATE}/full", check=False)
    took_s = restart(m)
    m.run("systemctl", "stop", "avdrift")
    m.run("umount", STATE)
    restart(m)
    return within_limit(took_s, "full state folder")


def check_read_only(m: Machine) -> str:
    before = pid(m)
    m.run("journalctl", "--relinquish-var")
    m.run("mount", "-o", "remount,bind,ro", "/")
    m.run("systemctl", "kill", "--signal=KILL", "avdrift")
    took_s = measuring(m, besides=before)
    m.run("mount", "-o", "remount,bind,rw", "/")
    return within_limit(took_s, "read-only root, kill -9")


def check_permissions(m: Machine) -> str:
    m.run("chmod", "600", CONFIG)
    said = refuses(m, 2, CONFIG, "Permission denied")
    m.run("chmod", "644", CONFIG)
    m.run("chown", "-R", "root:root", STATE)
    m.run("chmod", "700", STATE)
    first_s = restart(m)
    before = pid(m)
    m.run("chmod", "700", "/opt/avdrift")
    m.run("systemctl", "kill", "--signal=KILL", "avdrift")
    time.sleep(8)
    m.run("chmod", "755", "/opt/avdrift")
    second = within_limit(measuring(m, besides=before), "program unreadable for 8 s, then")
    return f"{said}; {within_limit(first_s, 'state folder of root')}; {second}"


def check_configuration(m: Machine) -> str:
    m.write(CONFIG, SETTINGS.replace("4.0", "400"))
    said = refuses(m, 2, CONFIG, "window_s", "0.4 to 60")
    m.write(CONFIG, SETTINGS)
    return f"{said}; {within_limit(restart(m), 'corrected and started')}"


def check_reload(m: Machine) -> str:
    """The same process takes over what it can, and keeps all it has where the new file is wrong."""
    before, since_s = pid(m), time.time()
    m.write(CONFIG, SETTINGS.replace("[measure]", '[measure]\nprofile = "ebu-r37"').replace("4.0", "5.0"))
    m.run("systemctl", "reload", "avdrift")
    wait_until(lambda: "needs a restart: measure.window_s" in journal(m, since_s), 10, "the reload's words")
    assert "applied: measure.profile" in journal(m, since_s), journal(m, since_s)
    m.write(CONFIG, "config_version = 1\n[measure]\nwindow_s = 400\n")
    m.run("systemctl", "reload", "avdrift")
    wait_until(lambda: "the settings stay as they are" in journal(m, since_s), 10, "the refusal")
    m.write(CONFIG, SETTINGS)
    m.run("systemctl", "reload", "avdrift")
    measuring(m)
    assert (pid(m), shown(m, "ActiveState"), shown(m, "NRestarts")) == (before, "active", "0")
    return "another profile applied, a wrong file refused, by the same process"


def check_models(m: Machine) -> str:
    release = m.run("readlink", "-f", "/opt/avdrift/venv").stdout.strip()
    face = m.path(f"{release}/share/avdrift/face_detection_short_range.tflite")
    content = face.read_bytes()
    face.write_bytes(content[:-1])
    refused = refuses(m, 4, face.name, "SHA-256")
    face.write_bytes(content)
    built_in = next(m.path(release).glob("lib/python3*/site-packages/device/models/default"))
    bundle = f"/{built_in.relative_to(m.path('/'))}"
    m.run("avdrift", "model", "install", "--allow-unsigned", "--activate", bundle)
    assert not m.run("find", STATE, "!", "-user", "avdrift").stdout, "the service may replace all of it"
    listed = m.run("runuser", "-u", "avdrift", "--", "avdrift", "model", "list").stdout
    assert " current " in listed, listed
    for tower in m.path(STATE).glob("models/*/*.tflite"):
        tower.chmod(0o644)
        tower.write_bytes(b"not a model")
    since_s = time.time()
    took_s = restart(m)
    assert "they cannot be used" in journal(m, since_s), journal(m, since_s)
    m.run("rm", "-rf", f"{STATE}/models")
    return f"{refused}; {within_limit(took_s, 'damaged installed model: the built-in one is used')}"


def check_without_devices(m: Machine) -> str:
    """No camera and no microphone: ready, with the fault's name, and neither watchdog nor restart until they come."""
    m.write(CONFIG, "config_version = 1\n")
    began_s = time.monotonic()
    m.run("systemctl", "restart", "avdrift")
    took_s = time.monotonic() - began_s
    before, status = pid(m), shown(m, "StatusText")
    assert re.search(r"\((camera|microphone) \w+", status), status
    time.sleep(30)  # more than WatchdogSec
    assert (pid(m), shown(m, "ActiveState"), shown(m, "NRestarts")) == (before, "active", "0")
    return f"ready after {took_s:.1f} s with STATUS {status!r}, and so for 30 s"


def check_reboot(m: Machine) -> str:
    began_s = time.monotonic()
    m.run("systemctl", "stop", "avdrift")
    stopped_s = time.monotonic() - began_s
    assert shown(m, "Result") == "success" and stopped_s < LIMIT_S, shown(m, "Result")
    m.reboot()
    began_s = m.booted_s
    measuring(m)
    return f"stopped in {stopped_s:.1f} s; {within_limit(time.monotonic() - began_s, 'after a reboot')}"
