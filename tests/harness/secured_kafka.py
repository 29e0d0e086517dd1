"""A broker that lets nobody in without TLS, a user and ACLs; the harness has a door of its own.

``bootstrap`` is the plain listener, on which anybody is the super user: it is the witness's. The
others are the worker's: ``secured`` (TLS and SASL), ``expired`` (the same with a certificate that
has run out) and ``mutual`` (TLS with a certificate of the client's).
"""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Iterable
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from stream_app.acls import Acl
from stream_app.kafka_server import KafkaServer, java_command
from stream_app.local_ports import HOST, free_port

USER, PASSWORD = "stream", "correct horse"
CLIENT_NAME = "client.test"

_PROPERTIES = """\
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port},SECURED://{host}:{secured},EXPIRED://{host}:{expired},MUTUAL://{host}:{mutual}
advertised.listeners=PLAINTEXT://{host}:{port},SECURED://{host}:{secured},EXPIRED://{host}:{expired},MUTUAL://{host}:{mutual}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL,EXPIRED:SASL_SSL,MUTUAL:SSL
inter.broker.listener.name=PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
ssl.keystore.type=PEM
ssl.truststore.type=PEM
ssl.truststore.location={folder}/authority.pem
listener.name.secured.ssl.keystore.location={folder}/broker.pem
listener.name.expired.ssl.keystore.location={folder}/expired.pem
listener.name.mutual.ssl.keystore.location={folder}/broker.pem
listener.name.mutual.ssl.client.auth=required
{logins}
"""
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN = (
    f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
)


class SecuredKafka(KafkaServer):
    """One node with certificates of its own making, in ``tls/`` of its directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        ports: list[int] = []
        while len(ports) < 3:
            port = free_port()
            if port not in ports:
                ports.append(port)
        self._secured, self._expired, self._mutual = ports
        self.folder = self.directory / "tls"
        self._make_certificates()

    @property
    def cafile(self) -> Path:
        """PEM of the authority that signed the broker."""
        return self.folder / "authority.pem"

    def settings(self, listener: str = "secured", **changed: object) -> dict[str, object]:
        """Return a worker's settings for one of the listeners."""
        port = {"secured": self._secured, "expired": self._expired}[listener]
        return {
            "bootstrap_servers": f"{HOST}:{port}",
            "security_protocol": "SASL_SSL",
            "ssl_cafile": self.cafile,
            "sasl_username": USER,
            "sasl_password_file": self.folder / "password",
            **changed,
        }

    def mutual_settings(self) -> dict[str, object]:
        """Return settings that prove who we are by a certificate."""
        return {
            "bootstrap_servers": f"{HOST}:{self._mutual}",
            "security_protocol": "SSL",
            "ssl_cafile": self.cafile,
            "ssl_certfile": self.folder / "client.pem",
            "ssl_keyfile": self.folder / "client.key",
        }

    def allow(self, acls: Iterable[Acl], principal: str = f"User:{USER}") -> None:
        """Give a user these permissions."""
        by_operation: dict[str, list[str]] = {}
        for acl in acls:
            names = by_operation.setdefault(acl.operation, [])
            names += [f"--{acl.resource}", acl.name]
        for operation, names in by_operation.items():
            self._acls("--add", "--allow-principal", principal, "--operation", operation, *names)

    def forbid(self, acl: Acl, principal: str = f"User:{USER}") -> None:
        """Take one permission away."""
        change = acl.arguments(principal)
        self._acls("--remove", "--force", *change[1:])

    def _acls(self, *arguments: str) -> None:
        tool = "org.apache.kafka.tools.AclCommand"
        command = [*java_command(), tool, "--bootstrap-server", self.bootstrap, *arguments]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr

    def _make_certificates(self) -> None:
        self.folder.mkdir(parents=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.cafile))
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        for name, not_after in (("broker", None), ("expired", past)):
            issued = authority.issue_cert(HOST, not_after=not_after)
            chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
            key = _pkcs8(issued.private_key_pem.bytes())
            (self.folder / f"{name}.pem").write_bytes(key + chain)
        client = authority.issue_cert(CLIENT_NAME, common_name=CLIENT_NAME)
        client.private_key_pem.write_to_path(str(self.folder / "client.key"))
        for blob in client.cert_chain_pems:
            blob.write_to_path(str(self.folder / "client.pem"), append=True)
        (self.folder / "password").write_text(PASSWORD + "\n")

    def _write_properties(self, controller_port: int) -> None:
        super()._write_properties(controller_port)
        logins = "\n".join(
            f"listener.name.{listener}.{mechanism}.sasl.jaas.config={login}"
            for listener in ("secured", "expired")
            for mechanism, login in (("scram-sha-512", _SCRAM), ("plain", _PLAIN))
        )
        with (self.directory / "server.properties").open("a") as properties:
            properties.write(  # of two lines with the same name Kafka takes the last
                _PROPERTIES.format(
                    host=HOST,
                    port=self.port,
                    controller_port=controller_port,
                    secured=self._secured,
                    expired=self._expired,
                    mutual=self._mutual,
                    folder=self.folder,
                    logins=logins,
                )
            )

    def _format_arguments(self) -> list[str]:
        return ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"]


def _pkcs8(key: bytes) -> bytes:
    """Return a PEM key in the only form that Kafka reads."""
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
