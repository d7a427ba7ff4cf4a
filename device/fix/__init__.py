"""`avdrift fix`: a copy of a recording whose sound and picture are together."""
