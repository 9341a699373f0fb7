"""Invoices to the form in which Fusion takes them, or to the reason why a person must look.

Belongs here: suppliers, sites, accounts, periods, crosswalks and the body that is sent. Does not: sending it.
"""
