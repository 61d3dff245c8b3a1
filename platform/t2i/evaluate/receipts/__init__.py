"""Receipts of evaluations: what the figures depend on, and how others check, compare and extrapolate them.

``make.py`` writes receipts; ``verify.py`` recomputes figures from what is stored, ``deep.py`` from images and models;
``compare.py`` sets two receipts beside each other; ``plan.py`` says what a larger evaluation would take.
"""
