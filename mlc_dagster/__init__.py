"""Approved Stampli invoices into Oracle Fusion Cloud ERP, exactly once and provably; a Dagster project."""
