"""What runs on the device: from camera and microphone, or a recording, to a report. Never imports TensorFlow."""

import os
import sys

__version__ = "0.2.0"

# Before NumPy is loaded: the chain's matrices are small, and BLAS threads spend twice the processor's time waiting for
# each other (`avdrift bench`, the curve and the whole). A value set by the user wins, and a program that imports
# avdrift decides for itself.
if "avdrift" not in sys.modules:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
