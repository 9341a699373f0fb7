"""Durable state and the audit trail: every file, invoice, request and observation, in SQLite or PostgreSQL.

What belongs here: tables, transitions, leases, the audit trail, the archive of bytes. What does not: any rule about
what a file or an invoice should look like (``stampli``) and any network connection.
"""
