"""The verbs: each a function from a configuration to a result, wiring the rooms.

The only room that knows all others. `pipeline.cli` calls these and shows what they return; so can any program, with
`from pipeline.stages.search import search`. Nothing is imported here: networks take seconds to load, `--help` must not.
"""
