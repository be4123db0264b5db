"""One extraction divided among processes, on any number of machines over one file system.

`planning` is what the first of them does, and what the others read; `shard_run` describes one shard, into a folder of
its own; `joining` commits what all of them wrote, at once. `shard_settings` holds what they have in common,
`shard_states` how far each is.
"""
