"""A real Apache Kafka on this machine, for trying out, development and tests: no Docker, no installed Java.

    with LocalKafka(directory) as kafka:
        kafka.bootstrap_servers     # "127.0.0.1:9092"

Whenever a process dies, the directory is in a known state: ``data`` is absent or formatted as a whole (it is
formatted under another name and renamed); ``pid`` is written by the very process it names, before that becomes
the broker, and is believed only while that process's command line names the directory. So a start after a
half-finished start, a ``kill -9`` or a reboot is an ordinary start, and the topics are still there.

Topics are not created by asking for them (``faust-anomaly topics --create`` makes them).

    jars      Kafka from Maven Central, once, and a Java from PyPI
    probe     ports, processes, the protocol's own answer
    broker    the class
"""

from app.local_kafka.broker import PORT, LocalKafka, Status, default_directory
from app.local_kafka.jars import LocalKafkaError

__all__ = ["PORT", "LocalKafka", "LocalKafkaError", "Status", "default_directory"]
