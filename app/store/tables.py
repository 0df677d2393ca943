"""The tables of the history. app/store/migrations creates them; a test compares both.

Times are epoch seconds. ``recorded_at`` is Kafka's time of the last record of a row. The retention goes by it, as a
replay may have any event times.
"""

from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, MetaData, SmallInteger, Table, Text

metadata = MetaData()

episodes = Table(
    "episodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("opened_at", Double, nullable=False),
    Column("ended_at", Double),  # null: it is open
    Column("reason", Text, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("peak_score", Double, nullable=False),
    # Of the event at which the episode reached its severity.
    Column("value", Double),
    Column("expected", Double),
    Column("sentence", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("event", JSON, nullable=False),  # all of it: votes, band, attribution
    # Place of the last event, to recognize repeated ones: Event.place, and the index in EVENTS.
    Column("last_offset", BigInteger, nullable=False),
    Column("last_index", BigInteger, nullable=False),
    Column("last_event", SmallInteger, nullable=False),
    Column("recorded_at", Double, nullable=False),
    Index("episodes_opened", "opened_at", "id"),
    Index("episodes_source", "source", "opened_at"),
    Index("episodes_recorded", "recorded_at"),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("about", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("done_at", Double),
    Column("attempts", BigInteger, nullable=False),
    Column("answer", Text, nullable=False),
    Column("recorded_at", Double, nullable=False),
    Index("notifications_recorded", "recorded_at"),
)

# Episodes of a notification: one, or the many of a digest.
news = Table(
    "news",
    metadata,
    Column("notification", Text, primary_key=True),
    Column("episode", Text, primary_key=True),
    Column("place", Integer, nullable=False),  # in the notification, from 0
    Column("why", Text, nullable=False),
    Index("news_episode", "episode"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("key", Text, primary_key=True),
    Column("decision", Text, nullable=False),  # acknowledgement, silence, feedback
    Column("episode", Text),
    Column("silence", Text),  # its id
    Column("matchers", JSON, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("at", Double, nullable=False),  # of a silence: when it begins
    Column("ends_at", Double),  # of a silence
    Column("recorded_at", Double, nullable=False),
    Index("decisions_episode", "episode"),
    Index("decisions_recorded", "recorded_at"),
)

# Offsets up to which the topics were read; written in the same transaction as the rows.
positions = Table(
    "positions",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("topic_id", Text, nullable=False),  # "" from brokers before Kafka 2.8
    Column("next_offset", BigInteger, nullable=False),
)

# group: the consumer group of this history.
facts = Table(
    "facts", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False)
)  # fmt: skip
