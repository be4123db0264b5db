"""From which similarity two photos count as nearly equal, unless a flag or a setting says otherwise.

The default of `relook duplicates`, `serve.near` and `adapt.duplicates`; docs/duplicates.md has what each value finds.
"""

NEAR_EQUAL = 0.95
