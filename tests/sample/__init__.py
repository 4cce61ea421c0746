"""The sample project: one contract for every kind of test."""
