"""The kinds of models that can be trained, each with its configuration and its training.

Entries are `module:name` and imported on demand, because all of them need Keras, and listing them must not load it.
`train.models.load` loads a run of each kind, and `convert` has one module per kind that turns it into a bundle.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class TrainedKind:
    """`config` is a dataclass whose fields are the options of `fit --model`.

    `fit` takes training clips, validation clips, the folder of the run and a configuration.
    """

    config: str
    fit: str


KINDS = {
    "towers": TrainedKind("train.fit.config:FitConfig", "train.fit.towers:fit"),
    "syncnet": TrainedKind("train.models.syncnet:SyncNetConfig", "train.fit.syncnet:fit_syncnet"),
    "direct": TrainedKind("train.models.direct:DirectConfig", "train.fit.direct:fit_direct"),
}


def named(what: str) -> Any:
    """Import what an entry names."""
    module, _, name = what.partition(":")
    return getattr(import_module(module), name)
