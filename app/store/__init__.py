"""The history: tables of episodes, notifications and decisions in a database.

The tables are a projection of three topics: anomalies, notifications and decisions. If the database is deleted, it is
filled again from what the topics still hold. Nothing waits for it: workers and alerters only write to Kafka, and a
separate reader follows. ``app.store.history`` runs it. It imports SQLAlchemy, so import it only if ``storage.enabled``
is true.
"""
