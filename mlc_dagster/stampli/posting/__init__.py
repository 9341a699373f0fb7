"""Invoices to Fusion, each once: absence proven, claimed, sent, settled where the outcome is unknown, read back.

What may be sent, and when, is decided here; which window is worked on, and by whom, is not.
"""
