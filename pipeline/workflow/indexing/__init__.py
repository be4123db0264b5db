"""Bringing an index to the state of the photos: `sync_index`, one engine with two policies (`extract`, `reindex`).

`changes` finds what differs, `removal_guard` refuses a large loss, `model_choice` decides which model describes,
`fitting` and `extraction` describe, `store_filling` brings a store that is not the index itself to the same state.
`maintenance` holds the verbs that need no photo.
"""
