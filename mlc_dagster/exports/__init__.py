"""Domain, outbound: from what changed in Fusion to files on partners' servers.

Reading into extracts, recognising versions, layouts and their writers, building files, delivering them, and reading the
acknowledgements that come back. Nothing here knows Dagster.
"""
