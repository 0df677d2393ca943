"""Telling people of episodes: routes, groups, silences, messages, channels, and the record of who was told."""
