"""Construction of MIS: four steps (Section 3 of the paper), then labels and splits.

Who writes, draws, reviews and judges is behind the protocols of `participants`; the steps only ask, check and count.
"""
