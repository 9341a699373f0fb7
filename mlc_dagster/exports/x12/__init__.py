"""X12 out (810, 850, 860, 821) and acknowledgements in (997, TA1), for partners who exchange by interchange."""
