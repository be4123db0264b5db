"""The one training loop: steps, validation, checkpoints, resume, several processes, logs.

Runs any `TrainingTask` of `pipeline.train`.
"""
