"""Connector to the Oracle Fusion Cloud REST interface (fscmRestApi).

What belongs here: signing in, framework rules, pacing, paging, and one module per resource that turns answers into
typed rows. What does not: when to post, what a duplicate is, what is remembered; the caller decides and records.
"""
