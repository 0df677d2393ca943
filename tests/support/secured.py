"""A broker as careful people run theirs: TLS, passwords, nothing allowed that no ACL allows.

Its listener PLAINTEXT is for the tests' own hands: whoever comes there is a super user, so that topics can be made and
ACLs changed without a client of ours. SECURE is the one under test, and MUTUAL, where the certificate says who comes.
EXPIRED and ELSEWHERE show certificates that must not be believed. Whoever comes to ASTRAY is sent to an address where
nobody is.
"""

import asyncio
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest

from app.local_kafka import LocalKafka, probe
from tests.support.kafka_tools import administration

KINDS = {"topic": 2, "group": 3}  # of the protocol, as are these
OPERATIONS = {"All": 2, "Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
LITERAL, ALLOW = 3, 3
CA_CONFIG = """
[ca]
default_ca = own
[own]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


class Acl(NamedTuple):
    """One right of a user: to do this with the topic or group of this name."""

    operation: str
    kind: str
    name: str


class Certificates:
    """An authority of our own in a directory, and what it signed: NAME.pem holds key and certificate."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "ca.cnf").write_text(CA_CONFIG)
        (directory / "index").touch()
        (directory / "serial").write_text("1000\n")
        self._openssl("req", "-x509", *self._new("ca"), "-days", "2", "-out", "ca.pem")
        self.ca = directory / "ca.pem"

    def sign(self, name: str, host: str = "IP:127.0.0.1", end: str = "99991231235959Z") -> Path:
        """A certificate for this host, good until ``end``."""
        self._openssl("req", *self._new(name), "-out", f"{name}.csr")
        (self.directory / f"{name}.ext").write_text(f"subjectAltName={host}\n")
        files = ["-in", f"{name}.csr", "-out", f"{name}.crt", "-keyfile", "ca.key", "-cert", "ca.pem"]
        dates = ["-startdate", "20000101000000Z", "-enddate", end, "-extfile", f"{name}.ext"]
        self._openssl("ca", "-batch", "-notext", "-config", "ca.cnf", *files, *dates)
        both = self.directory / f"{name}.pem"
        both.write_bytes((self.directory / f"{name}.key").read_bytes() + (self.directory / f"{name}.crt").read_bytes())
        return both

    def _new(self, name: str) -> list[str]:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
        return [*key, "-subj", f"/CN={name}"]

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)


class SecuredKafka(LocalKafka):
    """The broker, and its addresses ``secure``, ``mutual``, ``expired``, ``elsewhere``, ``astray``.

    ``users``: name -> password.
    """

    def __init__(self, directory: Path, certificates: Certificates, users: Mapping[str, str]) -> None:
        names = ("PLAINTEXT", "CONTROLLER", "SECURE", "MUTUAL", "EXPIRED", "ELSEWHERE", "ASTRAY")
        ports: dict[str, int] = {}
        while len(ports) < len(names):
            port = probe.free_port()
            if port not in ports.values():
                ports[names[len(ports)]] = port or 0
        address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        self.secure, self.mutual, self.astray = address["SECURE"], address["MUTUAL"], address["ASTRAY"]
        self.expired, self.elsewhere = address["EXPIRED"], address["ELSEWHERE"]
        self.certificates, self.ca = certificates, certificates.ca
        secure = certificates.sign("secure")
        shown = {
            "secure": secure,
            "mutual": secure,
            "expired": certificates.sign("expired", end="20000102000000Z"),
            "elsewhere": certificates.sign("elsewhere", host="DNS:kafka.example"),
        }
        listeners = [f"{name}://{where}" for name, where in address.items()]
        advertised = {**address, "ASTRAY": "127.0.0.1:1"}
        del advertised["CONTROLLER"]
        properties = {
            "listeners": ",".join(listeners),
            "advertised.listeners": ",".join(f"{name}://{where}" for name, where in advertised.items()),
            "controller.quorum.bootstrap.servers": address["CONTROLLER"],
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL,"
                "EXPIRED:SSL,ELSEWHERE:SSL,ASTRAY:PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            # Tokens without a signature: whoever comes is who the token says.
            "listener.name.secure.oauthbearer.sasl.jaas.config": (
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
                'unsecuredLoginStringClaim_sub="broker";'
            ),
            "listener.name.secure.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
            "group.min.session.timeout.ms": "500",
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.truststore.type": "PEM",
            "listener.name.mutual.ssl.truststore.location": str(self.ca),
        }
        for name, pem in shown.items():
            properties[f"listener.name.{name}.ssl.keystore.type"] = "PEM"
            properties[f"listener.name.{name}.ssl.keystore.location"] = str(pem)
        super().__init__(directory, ports["PLAINTEXT"], properties, users=users)

    def settings(self, user: str) -> dict[str, Any]:
        """The section ``kafka`` of this user's settings."""
        return {
            "bootstrap_servers": [self.secure],
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": user,
            "sasl_password": self.users[user],
            "ssl_cafile": str(self.ca),
        }

    def allow(self, user: str, acls: Iterable[Acl]) -> None:
        asyncio.run(self._change(CreateAclsRequest, user, acls))

    def take_away(self, user: str, acls: Iterable[Acl]) -> None:
        asyncio.run(self._change(DeleteAclsRequest, user, acls))

    @contextmanager
    def without(self, user: str, acl: Acl) -> Iterator[None]:
        """For a ``with`` block the user lacks this right."""
        self.take_away(user, [acl])
        yield
        self.allow(user, [acl])

    async def _change(self, request: Any, user: str, acls: Iterable[Acl]) -> None:
        """Returns when the broker goes by it."""
        acls = list(acls)
        async with administration(self.bootstrap_servers) as admin:
            for operation, kind, name in acls:
                what = (KINDS[kind], name, LITERAL, f"User:{user}", "*", OPERATIONS[operation], ALLOW)
                answer = await admin._send_request(request(*what))
                if request is CreateAclsRequest:
                    [(code, message)] = answer.creation_responses
                else:
                    [(code, message, found)] = answer.filter_responses
                    assert len(found) == 1, f"{user} had no right {operation} {kind} {name}"
                if code:
                    raise for_code(code)(message)
            for operation, kind, name in acls:
                what = (KINDS[kind], name, LITERAL, f"User:{user}", "*", OPERATIONS[operation], ALLOW)
                wanted = request is CreateAclsRequest
                while bool((await admin._send_request(DescribeAclsRequest(*what))).resources) != wanted:
                    await asyncio.sleep(0.01)  # what answers this is what decides
