"""`fit --strategy`: training on the devices of one machine, or on several machines, with tf.distribute.

Every replica trains on batches of its own, the gradients are summed and the losses averaged: N replicas are N times the
batch. `mirrored` uses all GPUs of this machine. `multiworker` is started on each machine with the cluster in TF_CONFIG
and one folder OUT that all of them reach. Normalisation layers keep the statistics of their own replica; the first
worker's are saved. Without a strategy no TensorFlow is needed: Keras trains on any backend.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import keras

from device.errors import UsageError
from train.models.backend import require_tensorflow

STRATEGIES: Final = ("none", "mirrored", "multiworker")
Step = Callable[[list[Any]], dict[str, float]]  # one batch (x, y) for each local replica to the logs of all


@dataclass(frozen=True, slots=True)
class Workers:
    """The training processes: this one is number `index` of all; the first one, 0, writes the output.

    `strategy`: of tf.distribute; None: this process alone, on the first device of Keras's backend.
    """

    strategy: Any = None
    index: int = 0

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    @property
    def replicas(self) -> int:
        """Of all workers together."""
        return int(self.strategy.num_replicas_in_sync) if self.strategy else 1

    def scope(self) -> AbstractContextManager[Any]:
        """The scope in which a model must be built and compiled."""
        found: AbstractContextManager[Any] = self.strategy.scope() if self.strategy else nullcontext()
        return found

    @property
    def local_replicas(self) -> int:
        return len(self.strategy.extended.worker_devices) if self.replicas > 1 else 1

    def grouped(self, batches: Iterator[Any]) -> Iterator[list[Any]]:
        """Batches in groups for one step: one for each replica of this worker."""
        while True:
            yield [next(batches) for _ in range(self.local_replicas)]

    def step(self, model: keras.Model) -> Step:
        """One training step of a compiled model that was built in the strategy's scope.

        If workers trace graphs, all must reach the same shapes in the same order, because their exchanges are numbered.
        """
        if self.replicas == 1:
            return lambda batches: model.train_on_batch(*batches[0], return_dict=True)

        import tensorflow as tf

        # Not train_on_batch: Keras 3 cannot average scalars between workers (tensorflow issue 72388).
        @tf.function
        def run(batch: Any) -> Any:
            logs = self.strategy.run(model.train_step, args=(batch,))
            return {name: self.strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}

        def step(batches: list[Any]) -> dict[str, float]:
            for metric in model.metrics:
                metric.reset_state()
            return {name: float(value) for name, value in run(self._spread(batches)).items()}

        return step

    def _spread(self, batches: list[Any]) -> Any:
        import tensorflow as tf

        if self.local_replicas == 1:
            return tf.nest.map_structure(tf.convert_to_tensor, batches[0])
        devices = self.strategy.experimental_distribute_values_from_function

        def of_all(*values: Any) -> Any:
            return devices(lambda context: tf.convert_to_tensor(values[context.replica_id_in_sync_group]))

        return tf.nest.map_structure(of_all, *batches)


def workers(name: str) -> Workers:
    """The workers under the strategy of that name; waits for the other workers, if there are any.

    Must be called before TensorFlow has run anything. Raises UsageError for a TF_CONFIG without a cluster, and for
    another backend than TensorFlow.
    """
    index = require_strategy(name)
    if name == "none":
        return Workers()
    import tensorflow as tf

    if name == "mirrored":
        return Workers(tf.distribute.MirroredStrategy())
    return Workers(tf.distribute.MultiWorkerMirroredStrategy(), index)


def require_strategy(name: str) -> int:
    """The index of this worker, without waiting for the others. Raises UsageError as `workers` does."""
    if name == "none":
        return 0
    require_tensorflow(f"--strategy {name}")
    return _worker_index(os.environ.get("TF_CONFIG", "")) if name == "multiworker" else 0


def _worker_index(config: str) -> int:
    """This worker's index in the cluster of TF_CONFIG; the chief is 0. Raises UsageError."""
    example = '{"cluster": {"worker": ["HOST1:PORT", "HOST2:PORT"]}, "task": {"type": "worker", "index": 0}}'
    try:
        found = json.loads(config)
        cluster, task = found["cluster"], found["task"]
        chiefs = len(cluster.get("chief", []))
        place = int(task["index"]) + (chiefs if task["type"] == "worker" else 0)
        if not 0 <= int(task["index"]) < len(cluster[task["type"]]):
            raise ValueError(f"no {task['type']} {task['index']}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        remedy = f"Set it on each worker, as in {example}"
        raise UsageError(f"TF_CONFIG names no worker of a cluster ({error!r})", where="--strategy multiworker",
                         remedy=remedy) from error  # fmt: skip
    return place
