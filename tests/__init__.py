"""A package by itself, since torch-fidelity's wheel installs one of the same name."""
