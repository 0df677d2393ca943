"""Reads the output topics for the view, and keeps recent results, episodes, notifications and decisions in memory."""
