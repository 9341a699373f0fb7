"""The inbound flow: from Stampli's files to invoices in Fusion.

Read it in this order: ``steps`` (what a run does), ``intake`` (folder to ledger; files are understood in ``parsing``),
``validation`` (may it be sent, and as what), ``posting`` (sent once, settled, read back). What may import what is kept
by a contract in pyproject.toml.
"""
