"""No test is timed, hypothesis's examples neither: machines differ, and emulated ones are very slow."""

from hypothesis import settings

settings.register_profile("avdrift", settings(), deadline=None)
settings.load_profile("avdrift")
