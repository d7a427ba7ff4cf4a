"""Checks that Keras and its backend are available, with a clear message otherwise."""

from __future__ import annotations

from importlib.util import find_spec

from device.errors import UsageError


def require_keras() -> None:
    """Raises UsageError if Keras, or the backend that KERAS_BACKEND names, is not installed."""
    try:
        import keras  # noqa: F401
    except ImportError as error:
        remedy = "Install avdrift with what training needs: pip install 'avdrift[train]'"
        raise UsageError(f"Keras cannot be imported ({error})", where="avdrift-train", remedy=remedy) from error


def require_tensorflow(where: str) -> None:
    """Raises UsageError if Keras runs on another backend than TensorFlow, or is not installed."""
    require_keras()
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        remedy = "Set KERAS_BACKEND=tensorflow, or unset it"
        raise UsageError(f"needs TensorFlow, and Keras runs on {backend} here", where=where, remedy=remedy)


def require_beam() -> None:
    """Raises UsageError if Apache Beam is not installed."""
    try:
        import apache_beam  # noqa: F401
    except ImportError as error:
        remedy = "Install avdrift with it: pip install 'avdrift[beam]'"
        raise UsageError(f"Apache Beam cannot be imported ({error})", where="--beam", remedy=remedy) from error


def require_tensorboard() -> None:
    """Raises UsageError if TensorBoard's package is not installed, which Keras' callback needs."""
    if find_spec("tensorboard") is None:
        what, remedy = "TensorBoard is not installed", "pip install tensorboard, or leave this out"
        raise UsageError(what, where="--tensorboard", remedy=remedy)


def make_deterministic() -> None:
    """Make results reproducible to the last bit from now on; must be called before anything has run."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
