"""How this process reaches Kafka: addresses, TLS and the user, as one value for every client.

Files are read when a client is made, not when the settings are: a certificate or password that was
exchanged meanwhile counts from the next connection on.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stream_app.errors import FixSettings

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]


@dataclass(frozen=True)
class KafkaAccess:
    """Addresses and credentials. Its ``str`` is the addresses alone, its ``repr`` no secret."""

    bootstrap_servers: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    ssl_cafile: Path | None = None
    """None: the system's authorities."""
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    sasl_password_file: Path | None = None
    """Instead of the password: its first line."""

    def __str__(self) -> str:
        """Return the addresses, for messages."""
        return self.bootstrap_servers

    @property
    def with_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def with_sasl(self) -> bool:
        """Whether a user name is given."""
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @property
    def user(self) -> str:
        """Who Kafka takes us for, for messages."""
        if self.with_sasl:
            return f"user {self.sasl_username}"
        return f"certificate {self.ssl_certfile}" if self.ssl_certfile else "anonymous client"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return what verifies the brokers and proves us to them; None without TLS.

        Raises:
            FixSettings: a file is missing or holds something else.
        """
        if not self.with_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ssl_cafile)
        except (OSError, ssl.SSLError) as error:
            raise FixSettings(
                f"ssl_cafile {self.ssl_cafile} cannot be used: {error}; a PEM file of the "
                "authorities that sign the brokers' certificates is expected"
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ssl_certfile is not None:
            try:
                context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile, password=_no_prompt)
            except (OSError, ssl.SSLError, _KeyIsEncrypted) as error:
                raise FixSettings(
                    f"ssl_certfile {self.ssl_certfile} with ssl_keyfile {self.ssl_keyfile} cannot "
                    f"be used: {error}; PEM files are expected, the key without a passphrase"
                ) from None
        return context

    def password(self) -> str:
        """Return the SASL password.

        Raises:
            FixSettings: its file is missing or empty.
        """
        if self.sasl_password_file is None:
            return self.sasl_password
        return first_line(self.sasl_password_file, "sasl_password_file")

    def client_options(self) -> dict[str, Any]:
        """Return the keyword arguments of any aiokafka client.

        Raises:
            FixSettings: a file is missing or holds something else.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.with_tls:
            options["ssl_context"] = self.ssl_context()
        if self.with_sasl:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.password()
        return options


Brokers = str | KafkaAccess
"""What a function takes that makes a client: bare addresses, or addresses with credentials."""


class _KeyIsEncrypted(Exception):
    """The private key wants a passphrase."""


def access(brokers: Brokers) -> KafkaAccess:
    """Return bare addresses as access without credentials."""
    return KafkaAccess(brokers) if isinstance(brokers, str) else brokers


def client_options(brokers: Brokers) -> dict[str, Any]:
    """Return the keyword arguments of any aiokafka client.

    >>> client_options("127.0.0.1:9092")
    {'bootstrap_servers': '127.0.0.1:9092', 'security_protocol': 'PLAINTEXT'}

    Raises:
        FixSettings: a file is missing or holds something else.
    """
    return access(brokers).client_options()


def first_line(path: Path, setting: str) -> str:
    """Return a secret that lies in a file of its own.

    Raises:
        FixSettings: the file is missing, unreadable or empty.
    """
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise FixSettings(f"{setting} {path} cannot be read: {error}") from None
    if not line:
        raise FixSettings(f"{setting} {path} is empty: its first line must be the secret")
    return line


def _no_prompt() -> str:
    """OpenSSL would ask the terminal, and a service would wait for ever."""
    raise _KeyIsEncrypted("the key is encrypted")
