"""Files to invoices: what a profile says of a file, and the rows, cells and invoices that it makes of it.

Belongs here: everything that is known from the bytes alone. Does not: folders, the ledger and Fusion.
"""
