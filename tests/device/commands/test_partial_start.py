"""With an error anywhere in the configuration, `run` ends before it has opened or written anything."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from device.config.settings import default_text
from tests.scenes import ROOT, talking

FILES = 120

# Runs in a process of its own, because what is watched cannot be unwatched: every file that is opened, every socket,
# every process and every thread, from the moment on when the command has been used once and all modules are there.
WATCH = """
import io, json, sys, threading
from contextlib import redirect_stderr, redirect_stdout
from device.cli import main

TOUCHES = ("open", "socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink",
           "os.truncate", "os.chmod", "os.fork", "os.posix_spawn", "os.system", "ctypes.dlopen", "import", "_thread.")
seen, watching = [], False
def watch(event, args):
    if watching and event.startswith(TOUCHES):
        seen.append([event, str(args[0]) if args else ""])
sys.addaudithook(watch)

def run(file, more):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["run", "--config", file, *more])
    return [code, out.getvalue(), err.getvalue()]

first, *files = sys.argv[2:]
more = json.loads(sys.argv[1])
run(first, more)
found = []
for file in files:
    seen.clear()
    threads, watching = threading.active_count(), True
    ended = run(file, more)
    watching = False
    found.append([*ended, list(seen), threading.active_count() - threads])
print(json.dumps(found))
"""


def malformed(folder: Path) -> list[Path]:
    """Files with exactly one thing wrong each, in every section, and files that are no configuration at all."""
    generator = random.Random(11)
    lines = default_text().splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    wrong = ["nan", "[]", "{}", '"\\u0007"', "1979-05-27", "-1e300", "0x" + "f" * 40, "=", '"', ""]
    texts = ["", "[", "\0", "config_version = 2\n", "[measure]\n", default_text()[:300] + "\nwindow_s"]
    while len(texts) < FILES:
        changed = list(lines)
        number = generator.choice(keys)
        key = changed[number].split(" = ")[0]
        changed[number] = generator.choice(
            [f"{key} = {generator.choice(wrong)}", f"{key}x = 1", f"{key} = 1\n{key} = 1"]
        )
        texts.append("\n".join(changed))
    files = [folder / f"{number}.toml" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text)
    return files


def test_a_wrong_file_ends_the_start_before_any_source_socket_file_or_thread(tmp_path: Path) -> None:
    files = malformed(tmp_path)
    for more in ([], ["--source", str(talking())]):
        command = [sys.executable, "-c", WATCH, json.dumps(more), *map(str, [files[0], *files])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
        found = json.loads(done.stdout)
        assert len(found) == FILES and done.stderr == ""
        for file, (code, out, err, touched, threads) in zip(files, found, strict=True):
            assert (code, out, threads) == (2, "", 0), (file.read_text(), err)
            assert err.startswith(f"avdrift: {file}: not a correct configuration") and "Traceback" not in err
            assert touched == [["open", str(file)]], file.read_text()


def test_the_watch_sees_what_a_right_file_opens(tmp_path: Path) -> None:
    """A proof that the one above could fail: here the file is right and the recording is none."""
    right, source = tmp_path / "right.toml", tmp_path / "none.mkv"
    right.write_text(default_text())
    source.write_text("no recording")
    command = [sys.executable, "-c", WATCH, json.dumps(["--source", str(source)]), str(right), str(right)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    ((code, _, _, touched, _),) = json.loads(done.stdout)
    assert code in (3, 4) and len(touched) > 1
