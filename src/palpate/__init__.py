"""Palpate."""
