"""Forgeries and honest copies, each made by a small function from files that the project itself signed.

`stage` holds the genuine material and the people, `tools` write media, boxes and certificates; the other modules hold
the attacks by kind, and `test_attacks` has the one table: no forged file is VERIFIED, and MATCHED only where the
attack's own row admits it, with the reason.
"""
