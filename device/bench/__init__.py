"""The cost of avdrift compared with others: timing on one thread, and SyncNet's network as published."""
