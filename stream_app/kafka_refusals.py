"""What a Kafka error means to the operator: wait, or mend credentials, certificates or ACLs.

aiokafka says of every broker it cannot use that it is "unable to bootstrap", whatever the reason;
so who cannot connect knocks once more, alone, and hears why.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

from aiokafka import errors
from aiokafka.client import create_conn

from stream_app.errors import FixSettings, InterestStreamError, WaitForBroker
from stream_app.kafka_access import Brokers, KafkaAccess, access

_KNOCK_S = 5.0

_NOT_ALLOWED = (
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
)
_NOT_KNOWN = (
    errors.AuthenticationFailedError,
    errors.SaslAuthenticationFailed,
    errors.IllegalSaslStateError,
    errors.UnsupportedSaslMechanismError,
)
_CLOSED_EARLY = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""A broker that stops while we shake hands; nothing is wrong with a certificate."""


class KafkaRefuses(FixSettings):
    """Kafka is there and does not let us: a password, a certificate or an ACL is to be mended."""


def refusal(error: BaseException, brokers: Brokers) -> KafkaRefuses | None:
    """Return what Kafka forbids, if that is what the error says."""
    us = access(brokers)
    if isinstance(error, _NOT_ALLOWED):
        return KafkaRefuses(
            f"Kafka at {us} does not allow {us.user} what we need to do with {_resource(error)}: "
            "`interest-stream topics acls` lists the ACLs that are needed"
        )
    if isinstance(error, _NOT_KNOWN):
        return KafkaRefuses(
            f"Kafka at {us} does not accept {us.user} with {us.sasl_mechanism}: {error}; check "
            "sasl_mechanism, sasl_username and sasl_password (or sasl_password_file)"
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, _CLOSED_EARLY):
        return KafkaRefuses(f"no TLS with Kafka at {us}: {_tls(error)}")
    return None


def may_not_create(topics: Iterable[str], brokers: Brokers) -> KafkaRefuses:
    """Return what to do about topics that are missing and that we may not create."""
    us = access(brokers)
    names = ", ".join(sorted(topics))
    return KafkaRefuses(
        f"Kafka at {us} does not allow {us.user} to create {names}: that takes the operation "
        "Create on these topics or on the cluster. `interest-stream topics acls --with-create` "
        "lists what to allow; or have an administrator run `interest-stream topics create`. If "
        "they exist, this user lacks the worker's ACLs and does not see them"
    )


def not_shown(topics: Iterable[str], brokers: Brokers) -> str:
    """Return why the settings of topics were not looked at."""
    us = access(brokers)
    names = ", ".join(topics)
    return (
        f"Kafka at {us} does not allow {us.user} to see the settings of {names}: that takes "
        "the operation DescribeConfigs, which no worker needs. An administrator's "
        "`interest-stream topics check` looks at them"
    )


async def unanswered(error: BaseException, brokers: Brokers) -> InterestStreamError:
    """Return the error of a client that cannot go on, as what the operator does about it."""
    found = refusal(error, brokers)
    if found is None and isinstance(error, errors.KafkaConnectionError):
        found = await _knock(access(brokers))
    if found is not None:
        return found
    return WaitForBroker(f"Kafka at {access(brokers)} does not answer: {error!r}")


async def _knock(us: KafkaAccess) -> KafkaRefuses | None:
    """Connect to one broker after the other; return why the first that refuses does."""
    if us.security_protocol == "PLAINTEXT":
        return None
    options = us.client_options()
    del options["bootstrap_servers"]
    for address in us.bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            async with asyncio.timeout(_KNOCK_S):
                connection = await create_conn(host.strip("[]"), int(port), **options)
        except (errors.KafkaError, OSError, TimeoutError, ValueError) as error:
            found = refusal(error, us) or refusal(error.__cause__ or error, us)
            if found is not None:
                return found
        else:
            connection.close()
    return None


def _resource(error: BaseException) -> str:
    """Say which topic or group it is, as far as the error knows."""
    kind = type(error).__name__.partition("Authorization")[0].lower()
    names = ", ".join(
        str(name)
        for argument in error.args
        for name in (sorted(argument) if isinstance(argument, set | frozenset) else [argument])
    )
    return f"{kind} {names}" if names else f"a {kind}"


def _tls(error: ssl.SSLError) -> str:
    """Say what is wrong with which certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the broker's certificate is refused: {error.verify_message}; renew it, or check "
            "ssl_cafile and the host names in bootstrap_servers"
        )
    reason = (error.reason or str(error)).replace("_", " ").lower()
    return (
        f"{reason}; check security_protocol, and ssl_certfile and ssl_keyfile if the broker wants "
        "a certificate of ours"
    )
