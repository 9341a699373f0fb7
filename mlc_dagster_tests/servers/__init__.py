"""Real servers that live for one test: a database, an OpenSSH daemon, an SFTP server with faults.

What belongs here: starting and ending them, and what a test has to know to reach them. No assertion about the product.
"""
