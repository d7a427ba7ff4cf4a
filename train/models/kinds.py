"""The kinds of models that can be trained, an entry each: where its configuration and its training are.

Named as `module:name` and imported when asked for: all of them need Keras, and listing them must not load it. How a run
of each is loaded stands in `train.models.load`, and how it becomes a bundle in `convert`, a module a kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainedKind:
    """`config` is a dataclass whose fields are the options of `fit --model`.

    `fit` takes clips to train on, clips to judge by, the folder of the run and a configuration.
    """

    config: str
    fit: str


KINDS = {
    "towers": TrainedKind("train.fit.config:FitConfig", "train.fit.towers:fit"),
    "syncnet": TrainedKind("train.models.syncnet:SyncNetConfig", "train.fit.syncnet:fit_syncnet"),
    "direct": TrainedKind("train.models.direct:DirectConfig", "train.fit.direct:fit_direct"),
}


def named(what: str) -> Any:
    """What an entry names."""
    module, _, name = what.partition(":")
    return getattr(import_module(module), name)
