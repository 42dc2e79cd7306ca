"""Training: a detector's stages, one after the other, on Lightning; logs, previews, checkpoints, resuming.

Knows nothing of any method. Everything random in a step is a function of the seed and the step's number,
so a training that was killed and resumed sees what an uninterrupted one would have seen.
"""
