"""The folder to the ledger: what lies there, what is whole, what was read, and what becomes of the files afterwards.

Belongs here: sightings, receiving, reading into the ledger, appearances of invoices, putting files away. Does not:
what an invoice means to Fusion.
"""
