"""Thousands of damaged and crafted bundles: `python -m tests.device.bundles.fuzz.fuzzing --times 10000`.

Each case is one bundle that somebody has meddled with, in one of the ways of WAYS, and what becomes of it is counted.
With the hashes put right again (`forged`) stands for whoever holds the key, or a build that went wrong: those models
reach LiteRT. They are tried in a fork, which is a hundred times faster than the device's own rehearsal; what kills or
outlives the fork goes through that one as well, and must come out as an error.

Golden vectors cannot tell everything: who changes a model can change them too, and only the signature keeps him out.
So each forged model that is accepted is asked what it makes of speech, and counted by how far that is from what the
true one makes of it: the same to the bit, near (5 % of the vectors' length), or far.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from device.bundles.bundle import DEFAULT_BUNDLE, FILES, MANIFEST, load_bundle
from device.bundles.golden import GOLDEN, distance
from device.bundles.rehearsal import BUSY_S
from device.bundles.signature import SIGNATURE
from device.bundles.store import verify_bundle
from device.errors import ModelError
from device.litert import Floats, Model
from tests.device.bundles.fuzz import speech
from tests.models.bundles import sign_off
from tests.models.stores import make_key, signed, trust
from tests.repository.test_house import ROOT

_NEAR = 0.05  # of the norm, as of golden vectors
_OUTCOMES = ("accepted, the same answers", "accepted, near answers", "accepted, far answers", "", "refused")
_INTERESTING = (b"\xff\xff\xff\xff", bytes(4), b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00", b"\x7f")
_JSON = (b"9" * 400, b"[" * 3000, b"-", b"null", b'"', b"NaN", b"1e999", b"\x00", b"{}", b"../", b"\xff", b"true")
_VALUES: tuple[Any, ...] = (None, True, -1, 10**400, float("nan"), 1e308, "", "../../x", "x" * 9999, [], {}, [[]] * 3)


def structure(content: bytes) -> list[int]:
    """The bytes of a .tflite file that are not weights: where a change means something else than another number."""
    model, whole = schema.Model.GetRootAs(content, 0), np.frombuffer(content, np.uint8)
    kept = np.ones(len(content), np.bool_)
    for number in range(model.BuffersLength()):
        data = model.Buffers(number).DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size > 64:
            start = data.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
            kept[start : start + data.size] = False
    return [int(place) for place in np.flatnonzero(kept)]


def mutated(content: bytes, places: list[int], pieces: tuple[bytes, ...], dice: random.Random) -> bytes:
    """One to four changes at some of the places: a bit, a byte, a piece, something lost, something added."""
    changed = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        at = min(dice.choice(places), len(changed) - 1)
        match dice.randrange(12):
            case 0 | 1 | 2 | 3:
                changed[at] ^= 1 << dice.randrange(8)
            case 4 | 5 | 6:
                changed[at] = dice.randrange(256)
            case 7 | 8:
                piece = dice.choice(pieces)
                changed[at : at + len(piece)] = piece
            case 9:
                changed[at:at] = dice.choice(pieces)
            case 10:
                del changed[at : at + dice.randrange(1, 20)]
            case _:
                del changed[at if dice.random() < 0.2 else len(changed) - dice.randrange(1, 9) :]
        if not changed:
            return b""
    return bytes(changed)


def other_value(content: bytes, dice: random.Random) -> bytes:
    """A manifest with something else in place of one of its values."""
    manifest = json.loads(content)
    inner, key = manifest, dice.choice(list(manifest))
    while isinstance(inner[key], dict) and inner[key] and dice.random() < 0.8:
        inner = inner[key]
        key = dice.choice(list(inner))
    if dice.random() < 0.2:
        del inner[key]
    else:
        inner[key] = dice.choice(_VALUES)
    return json.dumps(manifest).encode()


class Fuzzer:
    """Works in a folder of its own: a signed bundle to start from, and a copy to meddle with."""

    def __init__(self, work: Path, source: Path, seed: int, blocks: int) -> None:
        self.dice, self.seen = random.Random(seed), Counter[str]()
        self._folder, self._store = work / "bundle", work / "store"
        shutil.copytree(source, work / "pristine", ignore=shutil.ignore_patterns(SIGNATURE))
        key = make_key(work / "key")
        self._signers = trust(self._store, key)
        self._pristine = signed(work / "pristine", key)
        names = (*FILES, MANIFEST, SIGNATURE)
        self._contents = {name: (self._pristine / name).read_bytes() for name in names}
        self._places = {name: list(range(len(content))) for name, content in self._contents.items()}
        self._structures = {name: structure(self._contents[name]) for name in FILES if name != GOLDEN}
        shutil.copytree(self._pristine, self._folder)
        heard_in = work / "speech.npz"
        subprocess.run([sys.executable, "-m", speech.__name__, str(heard_in), str(blocks)], cwd=ROOT, check=True)
        with np.load(heard_in) as heard:
            self._speech = {name: list(heard[Path(name).stem]) for name in self._structures}
        self._answers = {name: self._to_speech(name, self._contents[name]) for name in self._structures}

    def run(self, times: int, say: Callable[[str], None] = lambda words: None) -> Counter[str]:
        for number in range(times):
            way = self.dice.choices(WAYS, [2, 1, 2, 4, 1])[0]
            way(self)
            if number % 500 == 499:
                say(f"{number + 1}: {dict(self.seen)}")
        return self.seen

    def _meddled(self, name: str, content: bytes) -> bool:
        """Put one changed file beside the others as they were; whether anything did change.

        Where the lines of a signature's base64 end is nobody's business.
        """
        for other, true in self._contents.items():
            (self._folder / other).write_bytes(content if other == name else true)
        if name == SIGNATURE:
            return b"".join(content.split()) != b"".join(self._contents[name].split())
        return content != self._contents[name]

    def _count(self, way: str, outcome: str) -> None:
        self.seen[f"{way}: {outcome}"] += 1

    def damaged(self) -> None:
        """Any file of a signed bundle, hashes as they were: always refused."""
        name = self.dice.choice(list(self._contents))
        content = mutated(self._contents[name], self._places[name], _JSON + _INTERESTING, self.dice)
        if self._meddled(name, content):
            self._must_be_refused("damaged", name)

    def manifest_signed(self) -> None:
        """Another value in a manifest, the signature as it was: always refused."""
        if self._meddled(MANIFEST, other_value(self._contents[MANIFEST], self.dice)):
            self._must_be_refused("signed manifest", MANIFEST)

    def manifest_unsigned(self) -> None:
        """The same without a signature, where that is allowed: what is accepted names the same models and contract."""
        content = self._contents[MANIFEST]
        if self.dice.random() < 0.5:
            content = other_value(content, self.dice)
        else:
            content = mutated(content, self._places[MANIFEST], _JSON, self.dice)
        self._meddled(MANIFEST, content)
        (self._folder / SIGNATURE).unlink()
        try:
            bundle = verify_bundle(self._folder, self._signers, allow_unsigned=True)
        except ModelError as error:
            self._told(error)
            return self._count("unsigned manifest", "refused")
        true = json.loads(self._contents[MANIFEST])
        assert bundle.manifest["files"] == true["files"], bundle.manifest["files"]
        assert bundle.manifest["contract"]["front_end"] == true["contract"]["front_end"]
        return self._count("unsigned manifest", "accepted, the same models")

    def forged(self) -> None:
        """A changed model or golden file with the hashes put right: refused, or it answers its golden vectors."""
        name = self.dice.choice(FILES)
        places = self._structures.get(name, self._places[name])
        if self.dice.random() < 0.1:
            places = self._places[name]
        self._meddled(name, mutated(self._contents[name], places, _INTERESTING, self.dice))
        (self._folder / SIGNATURE).unlink()
        sign_off(self._folder)
        outcome = self._in_a_fork(name)
        if outcome in ("crashed", "hung"):
            try:
                verify_bundle(self._folder, self._signers, allow_unsigned=True)
            except ModelError as error:
                self._told(error)
            else:
                raise AssertionError(f"accepted, and in a fork it {outcome}: {self._keep()}")
        self._count(f"forged {name}", outcome if outcome in _OUTCOMES else f"{outcome} a fork, refused")

    def forged_signature(self) -> None:
        """Everything right but for the signature."""
        content = mutated(self._contents[SIGNATURE], self._places[SIGNATURE], (b"\n", b" ", b"=", b"A"), self.dice)
        (self._folder / SIGNATURE).write_bytes(content)
        if self._meddled(SIGNATURE, content):
            self._must_be_refused("signature", SIGNATURE)

    def _must_be_refused(self, way: str, name: str) -> None:
        try:
            verify_bundle(self._folder, self._signers)
        except ModelError as error:
            self._told(error)
            return self._count(way, "refused")
        raise AssertionError(f"{way} {name} was accepted: {self._keep()}")

    def _told(self, error: ModelError) -> None:
        assert str(self._folder) in str(error) and error.remedy and len(str(error)) < 4000, error

    def _keep(self) -> Path:
        kept = Path(tempfile.mkdtemp(prefix="avdrift-fuzz-")) / "bundle"
        return Path(shutil.copytree(self._folder, kept))

    def _to_speech(self, name: str, content: bytes) -> list[Floats]:
        model = Model(content, name=name)
        return [model(given)[0] for given in self._speech[name]]

    def _astray(self, name: str) -> int:
        """How far an accepted model's answers are, as a number of _OUTCOMES."""
        if name not in self._speech:  # the models are the true ones
            return 0
        pairs = list(zip(self._to_speech(name, (self._folder / name).read_bytes()), self._answers[name], strict=True))
        if all(np.array_equal(answer, true) for answer, true in pairs):
            return 0
        return 1 if all(distance(answer, true) < _NEAR for answer, true in pairs) else 2

    def _in_a_fork(self, name: str) -> str:
        """How loading it ends: one of _OUTCOMES, crashed or hung; anything else fails here."""
        child = os.fork()
        if not child:
            code = 3
            with suppress(BaseException):
                self._silence()
                try:
                    load_bundle(self._folder)
                    code = self._astray(name)
                except ModelError as error:
                    self._told(error)
                    code = 4
            os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return "hung" if os.WTERMSIG(status) == signal.SIGXCPU else "crashed"
        assert os.WEXITSTATUS(status) != 3, f"an error of no kind of ours: {self._keep()}"
        return _OUTCOMES[os.WEXITSTATUS(status)]

    @staticmethod
    def _silence() -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (BUSY_S, BUSY_S + 5))


WAYS = (Fuzzer.damaged, Fuzzer.manifest_signed, Fuzzer.manifest_unsigned, Fuzzer.forged, Fuzzer.forged_signature)


def main() -> int:
    parser = argparse.ArgumentParser(description="Damaged and crafted bundles: no crash, no hang, no acceptance.")
    parser.add_argument("--times", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--blocks", type=int, default=10, help="seconds of speech that accepted models are asked about")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avdrift-fuzz-") as work:
        fuzzer = Fuzzer(Path(work), options.bundle, options.seed, options.blocks)
        seen = fuzzer.run(options.times, lambda words: print(words, file=sys.stderr, flush=True))
    print(json.dumps(dict(sorted(seen.items())), indent=1))
    return 0


if __name__ == "__main__":  # forks, so in a process that has no threads
    sys.exit(main())
