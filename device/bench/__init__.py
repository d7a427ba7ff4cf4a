"""What avdrift costs, beside what others cost: timing on one thread, and SyncNet's network as published."""
