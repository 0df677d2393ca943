"""Notifications of episodes: routes, groups, silences, messages, channels, and the record of what was sent."""
