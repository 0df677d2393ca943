"""Episodes, notifications, decisions, and the positions in the topics up to which they are there."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "episodes",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("opened_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("points", sa.BigInteger, nullable=False),
        sa.Column("peak_score", sa.Double, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("expected", sa.Double),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("event", sa.JSON, nullable=False),
        sa.Column("last_offset", sa.BigInteger, nullable=False),
        sa.Column("last_index", sa.BigInteger, nullable=False),
        sa.Column("last_event", sa.SmallInteger, nullable=False),
        sa.Column("recorded_at", sa.Double, nullable=False),
    )
    op.create_index("episodes_opened", "episodes", ["opened_at", "id"])
    op.create_index("episodes_source", "episodes", ["source", "opened_at"])
    op.create_index("episodes_recorded", "episodes", ["recorded_at"])
    op.create_table(
        "notifications",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("about", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("done_at", sa.Double),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.Double, nullable=False),
    )
    op.create_index("notifications_recorded", "notifications", ["recorded_at"])
    op.create_table(
        "news",
        sa.Column("notification", sa.Text, primary_key=True),
        sa.Column("episode", sa.Text, primary_key=True),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
    op.create_index("news_episode", "news", ["episode"])
    op.create_table(
        "decisions",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("episode", sa.Text),
        sa.Column("silence", sa.Text),
        sa.Column("matchers", sa.JSON, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("ends_at", sa.Double),
        sa.Column("recorded_at", sa.Double, nullable=False),
    )
    op.create_index("decisions_episode", "decisions", ["episode"])
    op.create_index("decisions_recorded", "decisions", ["recorded_at"])
    op.create_table(
        "positions",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("topic_id", sa.Text, nullable=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
