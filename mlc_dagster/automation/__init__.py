"""What makes runs happen: the job, the sensors, and the whole poll in one call for ``mlc run``.

What must run is derived from the ledger at every tick; nothing is remembered in a cursor or in Dagster's event log.
"""
