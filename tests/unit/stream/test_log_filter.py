import logging

from app.stream.log_filter import RepeatFilter


def test_a_repeated_message_passes_now_and_then_and_tells_how_many_were_kept():
    now = [0.0]
    once = RepeatFilter(10.0, clock=lambda: now[0])
    seen = []
    for second in range(25):
        now[0] = float(second)
        record = logging.LogRecord("aiokafka.conn", logging.ERROR, "", 0, "node %s is away", (second,), None)
        if once.filter(record):
            seen.append(record.getMessage())
    assert seen == [
        "node 0 is away",
        "node 10 is away (and 9 more like it since)",
        "node 20 is away (and 9 more like it since)",
    ]


def test_different_messages_do_not_hide_each_other():
    once = RepeatFilter(10.0, clock=lambda: 0.0)
    records = [logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, (), None) for text in ("a", "b", "a")]
    assert [once.filter(record) for record in records] == [True, True, False]
