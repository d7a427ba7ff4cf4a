"""What runs on the device: from camera and microphone, or a recording, to a report. Never imports TensorFlow."""

import os
import sys

__version__ = "0.2.0"

# Before NumPy is loaded: the chain's matrices are small, and BLAS's threads take twice the processor's time to wait for
# each other (`avdrift bench`, the curve and the whole). Who sets it otherwise is obeyed, and a program that imports
# avdrift decides for itself.
if "avdrift" not in sys.modules:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
