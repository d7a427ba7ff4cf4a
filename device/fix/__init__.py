"""`avdrift fix`: makes a copy of a recording with audio and video in sync."""
