"""What size of defect a detector finds: planted defects, their detection, probability-of-detection curves."""
