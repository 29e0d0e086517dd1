"""From settings to what a Kafka client takes, and from its errors to one line."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from aiokafka import errors

from stream_app.acls import creation_acls, worker_acls
from stream_app.cli.show_settings import setting_rows
from stream_app.delivery import faust_credentials
from stream_app.errors import FixSettings
from stream_app.kafka_access import KafkaAccess, client_options
from stream_app.kafka_refusals import refusal
from stream_app.settings import Settings, as_text, checked

SECRET = "correct horse"
SASL = {"security_protocol": "SASL_SSL", "sasl_username": "stream", "sasl_password": SECRET}


@pytest.fixture
def pems(tmp_path: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("client.test")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    return tmp_path


def test_bare_addresses_are_a_bare_connection() -> None:
    options = {"bootstrap_servers": "h:1", "security_protocol": "PLAINTEXT"}
    assert client_options("h:1") == options
    assert client_options(Settings(bootstrap_servers="h:1").kafka) == options
    assert faust_credentials(Settings().kafka) is None


def test_every_setting_arrives_in_aiokafka_and_in_faust(pems: Path) -> None:
    password_file = pems / "password"
    password_file.write_text(SECRET + "\nnot this\n")
    settings = checked(
        {
            **SASL,
            "sasl_password": "",
            "sasl_password_file": str(password_file),
            "sasl_mechanism": "SCRAM-SHA-256",
            "ssl_cafile": str(pems / "ca.pem"),
            "ssl_certfile": str(pems / "cert.pem"),
            "ssl_keyfile": str(pems / "key.pem"),
        }
    )
    options = client_options(settings.kafka)
    context = options.pop("ssl_context")
    assert options == {
        "bootstrap_servers": "127.0.0.1:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "stream",
        "sasl_plain_password": SECRET,
    }
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) == 1
    faust = faust_credentials(settings.kafka)
    assert (faust.username, faust.password, faust.mechanism.value, faust.protocol.value) == (  # type: ignore[union-attr]
        "stream",
        SECRET,
        "SCRAM-SHA-256",
        "SASL_SSL",
    )


def test_a_password_file_is_read_anew_for_each_client(tmp_path: Path) -> None:
    file = tmp_path / "password"
    access = KafkaAccess("h:1", "SASL_PLAINTEXT", sasl_username="u", sasl_password_file=file)
    for password in ("first", "second"):
        file.write_text(password)
        assert client_options(access)["sasl_plain_password"] == password


@pytest.mark.parametrize("content", [None, "", "\nsecond line"])
def test_a_password_file_without_a_password_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_text(content)
    access = KafkaAccess("h:1", "SASL_PLAINTEXT", sasl_username="u", sasl_password_file=file)
    with pytest.raises(FixSettings, match=f"sasl_password_file {file}"):
        client_options(access)


@pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certfile"])
@pytest.mark.parametrize("content", [None, "no PEM"])
def test_a_file_that_is_no_certificate_is_named(
    tmp_path: Path, name: str, content: str | None
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(FixSettings, match=f"{name} {file}"):
        client_options(KafkaAccess("h:1", "SSL", **{name: file}))  # type: ignore[arg-type]


def test_nothing_shows_the_password() -> None:
    settings = checked(SASL)
    shown = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.kafka)]
    shown += [
        str(setting_rows(settings)),
        str(settings.kafka),
        repr(faust_credentials(settings.kafka)),
    ]
    assert not [text for text in shown if SECRET in text]
    with pytest.raises(FixSettings) as caught:
        checked({**SASL, "sasl_password": [SECRET]})
    assert "sasl_password" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_child_process_gets_all_settings_and_the_secret() -> None:
    settings = checked(SASL)
    assert checked(as_text(settings)) == settings


def test_what_is_refused_names_the_user_and_the_thing() -> None:
    kafka = checked(SASL).kafka
    missing = refusal(errors.TopicAuthorizationFailedError("events"), kafka)
    assert "user stream" in str(missing)
    assert "topic events" in str(missing)
    assert missing is not None
    assert missing.exit_code == 2
    assert "group g" in str(refusal(errors.GroupAuthorizationFailedError("g"), kafka))
    expired = ssl.SSLCertVerificationError()
    expired.verify_message = "certificate has expired"
    assert "certificate has expired" in str(refusal(expired, kafka))


@pytest.mark.parametrize(
    "error", [errors.KafkaConnectionError(), ConnectionResetError(), ssl.SSLEOFError()]
)
def test_a_broker_that_is_away_refuses_nothing(error: Exception) -> None:
    assert refusal(error, checked(SASL).kafka) is None


def test_the_acls_are_those_of_a_worker_and_no_more() -> None:
    acls = [" ".join((*acl[1:], acl.resource)) for acl in worker_acls(Settings(app_id="a"))]
    assert acls == [
        "interest.events Read topic",
        "interest.items Read topic",
        "a-windows-changelog Read topic",
        "a-windows-changelog Write topic",
        "interest.updates Read topic",
        "interest.updates Write topic",
        "interest.item-vectors Write topic",
        "interest.dead-letters Write topic",
        "a Read group",
    ]


def test_a_worker_with_the_api_reads_item_vectors_too() -> None:
    without = Settings(app_id="a")
    with_it = Settings(app_id="a", api_token="sixteen-characters", http_port=8080)
    more = set(worker_acls(with_it)) - set(worker_acls(without))
    assert more == {("topic", "interest.item-vectors", "Read")}


def test_who_creates_the_topics_needs_the_right_for_each_and_for_no_other() -> None:
    settings = Settings(app_id="a")
    acls = creation_acls(settings)
    assert {acl.operation for acl in acls} == {"Create"}
    theirs = {acl.name for acl in worker_acls(settings) if acl.resource == "topic"}
    assert sorted(acl.name for acl in acls) == sorted(theirs)
