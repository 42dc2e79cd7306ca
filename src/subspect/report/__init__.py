"""Reports: runs and what became of them, as the paper's tables beside the published figures, and as a page."""
