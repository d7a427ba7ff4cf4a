"""Rules of the house that a machine can check: what device/ may import, the errors file, silence, leaked paths."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from device import errors

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("avdrift", "device", "train", "convert")
# Distribution in pyproject.toml -> the name under which it is imported; `tflite_runtime` is the older LiteRT.
IMPORT_NAMES = {
    "ai-edge-litert": {"ai_edge_litert", "tflite_runtime"},
    "av": {"av"},
    "flatbuffers": {"flatbuffers"},
    "numpy": {"numpy"},
    "opencv-python-headless": {"cv2"},
    "prometheus-client": {"prometheus_client"},
    "paho-mqtt": {"paho"},
    "pysubs2": {"pysubs2"},
    "rich": {"rich"},
    "segno": {"segno"},
    "starlette": {"starlette"},
    "uvicorn": {"uvicorn"},
    "webrtcvad-wheels": {"webrtcvad"},
}
# The optional group `live`, imported only where it is used; libcamera's Python comes with picamera2 from the system.
LIVE_IMPORT_NAMES = {"picamera2": {"picamera2", "libcamera"}, "pyaudio": {"pyaudio"}}
PLOT_IMPORT_NAMES = {"matplotlib"}  # likewise, the group `plot`
CHECK_IMPORT_NAMES = {"junitparser", "opentimelineio", "apache_beam"}  # likewise, the groups `check` and `beam`


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def repository_files() -> list[Path]:
    """What is committed or could be; without git (an unpacked archive), everything outside the made folders."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True).stdout
        paths = [ROOT / name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        made = re.compile(r"/\.(git|venv|\w+_cache)/|/__pycache__/")
        paths = [path for path in ROOT.rglob("*") if not made.search(str(path))]
    return [path for path in paths if path.is_file()]


def imported_packages(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.partition(".")[0]


def silent_handlers(tree: ast.AST) -> Iterator[int]:
    """Lines of handlers that catch everything without a name, or do nothing with what they caught."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        idle = all(
            isinstance(step, ast.Pass) or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
            for step in node.body
        )
        if node.type is None or idle:
            yield node.lineno


def test_imports_go_from_the_upper_layers_to_the_lower_ones() -> None:
    pytest.importorskip("importlinter")
    lint = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    command = [sys.executable, "-c", lint, "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_the_words_for_home_assistant_load_no_opencv() -> None:
    modules = "device.config.file, device.telemetry.mqtt.homeassistant"
    command = [sys.executable, "-c", f"import sys, {modules}; sys.exit('cv2' in sys.modules)"]
    assert subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode == 0


def test_device_names_only_its_own_dependencies_even_inside_functions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[<>=!~;\[ ]", requirement)[0] for requirement in project["dependencies"]}
    assert wanted == set(IMPORT_NAMES), "keep IMPORT_NAMES beside the dependencies of pyproject.toml"
    live = {re.split(r"[<>=!~;\[ ]", requirement)[0] for requirement in project["optional-dependencies"]["live"]}
    assert live == set(LIVE_IMPORT_NAMES), "keep LIVE_IMPORT_NAMES beside the group `live` of pyproject.toml"
    named = (*IMPORT_NAMES.values(), *LIVE_IMPORT_NAMES.values(), PLOT_IMPORT_NAMES, CHECK_IMPORT_NAMES)
    allowed = set(sys.stdlib_module_names).union({"device"}, *named)
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources("device")
        for name in imported_packages(ast.parse(path.read_text(encoding="utf-8")))
        if name not in allowed
    }
    assert not found


def test_tensorflow_is_never_a_base_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not [name for name in project["dependencies"] if name.startswith(("tensorflow", "keras"))]
    assert [name for name in project["optional-dependencies"]["train"] if name.startswith("tensorflow")]


def test_the_commands_are_the_documented_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {
        "avdrift": "device.entry:main",
        "avdrift-train": "train.cli:main",
        "avdrift-convert": "convert.cli:main",
    }


def test_the_errors_file_is_short_and_its_docstring_shows_the_whole_tree() -> None:
    path = ROOT / "device" / "errors.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80
    shown = dict(re.findall(r"(\w+Error) +(\d)", errors.__doc__ or ""))
    raised = {
        name: str(kind.exit_code)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.AvdriftError)
    }
    assert shown == raised


def test_nothing_else_declares_errors_of_its_own() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(*PACKAGES)
        if path != ROOT / "device" / "errors.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    ]
    assert not found


# What comes over a network, and what avdrift itself has just written.
UNBOUNDED_JSON = {
    "device/bench/streams.py", "device/check/beam.py", "device/page/app.py", "device/telemetry/mqtt/command_parser.py",
    "device/telemetry/mqtt/request.py", "device/telemetry/mqtt/signed_command.py",
}  # fmt: skip


def test_json_from_files_is_parsed_within_bounds() -> None:
    """A number of 400 digits fits no float, and would end whoever reads it."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in sources("device")
        if path.name != "bounded_json.py" and re.search(r"\bjson\.loads?\(", path.read_text(encoding="utf-8"))
    }
    assert found <= UNBOUNDED_JSON, "use device.state.bounded_json"


def test_nobody_swallows_an_error() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources(*PACKAGES, "tests")
        for line in silent_handlers(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


@pytest.mark.parametrize(
    ("handler", "silent"),
    [
        ("except OSError:\n    pass", True),
        ("except OSError:\n    ...", True),
        ("except OSError:\n    'why'", True),
        ("except:\n    print('all')", True),
        ("except OSError:\n    x = 0", False),
        ("except OSError:\n    raise", False),
    ],
)
def test_the_silence_test_knows_silence(handler: str, silent: bool) -> None:
    assert bool(list(silent_handlers(ast.parse(f"try:\n    f()\n{handler}")))) is silent


def test_every_python_file_begins_with_a_docstring() -> None:
    code = {path: path.read_text("utf-8") for path in sources(*PACKAGES, "tests")}
    without = [path for path, text in code.items() if text and not ast.get_docstring(ast.parse(text))]
    assert not [str(path.relative_to(ROOT)) for path in without]


MAX_MODULES = 12


def test_no_folder_has_more_modules_than_one_takes_in_at_a_glance() -> None:
    folders = Counter(path.parent for path in sources(*PACKAGES, "tests", "tools") if path.name != "__init__.py")
    assert not {str(folder.relative_to(ROOT)): count for folder, count in folders.items() if count > MAX_MODULES}


# A user's folder, a temporary file of one run, or the place where this very checkout lies.
MACHINE_PATH = re.compile(
    rb"(?<![\w./~-])/(?:home/(?!pi\b)\w|root/|Users/\w|work/\w|tmp/\w)|" + re.escape(str(ROOT).encode() + b"/")
)


def test_no_file_carries_a_path_of_the_machine_that_made_it() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()!r}"
        for path in repository_files()
        for match in MACHINE_PATH.finditer(path.read_bytes())
    ]
    assert not found


@pytest.mark.parametrize("folder", ["home/alice", "root/x", "tmp/clip.mkv", "Users/bob", "work/it"])
def test_the_path_test_knows_such_paths(folder: str) -> None:
    assert MACHINE_PATH.search(f"open('/{folder}')".encode())
    assert not MACHINE_PATH.search(f"lab/{folder} and ./{folder}".encode())


def test_no_third_party_weights_are_committed() -> None:
    found = [path.name for path in repository_files() if path.name.startswith(("face_detection", "face_landmark"))]
    assert not found
