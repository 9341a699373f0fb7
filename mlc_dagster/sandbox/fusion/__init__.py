"""An embedded Oracle Fusion: the REST resources that the pipeline uses, with the framework's rules and traps.

Start it with ``mlc_dagster.sandbox.server``; ``catalogue`` says which resources there are, ``invoice_rules`` what an
invoice must fulfil. What of it follows documentation and what is assumed is said where it is decided.
"""
