"""What runs on the device: from camera and microphone, or a recording, to a report. Never imports TensorFlow."""

__version__ = "0.1.0"
