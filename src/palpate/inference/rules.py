"""Versions of the rules by which masks are made (`InferenceSettings.rules`)."""

RULES = 2  # the newest
