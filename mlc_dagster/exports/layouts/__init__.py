"""Layouts: what a partner's file looks like, as YAML, and the CSV and fixed-width writers that follow it."""
