"""Many recordings at once: `avdrift check`."""
