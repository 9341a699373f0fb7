"""What a customer rehearses against: an embedded Oracle Fusion and a Stampli SFTP server.

Nothing here is imported by the product and nothing here imports the product, or the sandbox could not judge it.
Each server lives in a module of its own; this file stays empty so that either can be imported alone.
"""
