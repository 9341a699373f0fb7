"""``mlc doctor``: every system of mlc.yaml tried in order, each step with its likely cause and its remedy.

What belongs here: the steps, what each proves, and pinning a host key. What does not: how systems are spoken to
(``fusion``, ``sftp``, ``ledger``, ``vault``), and the screen (``cli``). Nothing is changed anywhere but by the write
probe, which removes what it wrote, and by pinning, which a person confirms.
"""
