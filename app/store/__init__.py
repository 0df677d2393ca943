"""The history: which episodes there were, who was told of them and what they answered, as tables in a database.

The tables are a projection of three topics: that of anomalies, of notifications and of decisions. Whoever deletes the
database loses nothing that the topics still hold. Nothing waits for it: workers and alerters only write to Kafka, and
here a reader of its own follows. ``app.store.history`` runs it; it imports SQLAlchemy, so import it only where
``storage.enabled`` asks for it.
"""
