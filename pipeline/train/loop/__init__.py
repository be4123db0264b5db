"""The one training loop: steps, validation, checkpoints, resume, several processes, logs.

Runs any `Task` of the other rooms of `pipeline.train`.
"""
