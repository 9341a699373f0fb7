"""Inbound domain: from the bytes of an invoice export to the body of a Fusion invoice.

Pure code belongs here: file profiles, parsing, checks, crosswalks, mapping. Network, ledger and Dagster do not.
"""
