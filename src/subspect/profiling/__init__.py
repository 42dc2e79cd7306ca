"""Where a detector's time, memory and arithmetic go, and how far that is from what the machine can do."""
