"""Benchmarks of the product against what one would write by hand; see ``README.md``. Not run by the tests."""
