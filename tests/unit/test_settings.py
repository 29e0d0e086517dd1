"""Settings: where they come from, and one clear line for each that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stream_app.errors import FixSettings
from stream_app.settings import Settings, load


def test_environment_wins_over_file_wins_over_default(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('partitions = 4\nupdates_topic = "from.file"\n')
    settings = load({"INTEREST_PARTITIONS": "6"}, config)
    assert (settings.partitions, settings.updates_topic) == (6, "from.file")
    assert settings.events_topic == "interest.events"
    assert load({"INTEREST_CONFIG": str(config)}).partitions == 4
    assert load({}, config, {"partitions": 2}).partitions == 2


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"INTEREST_PARTITIONS": "many"}, ["partitions", "INTEREST_PARTITIONS", "'many'"]),
        ({"INTEREST_PARTITIONS": "0"}, ["partitions", "'0'", "greater than or equal to 1"]),
        ({"INTEREST_UPDATE_FORMAT": "xml"}, ["update_format", "'xml'", "'json' or 'avro'"]),
        ({"INTEREST_PARTITION": "8"}, ["unknown setting partition", "interest-stream settings"]),
        ({"INTEREST_WINDOW_MAX_BYTES": "2000"}, ["window_max_bytes is 2000", "max_event_bytes"]),
        ({"INTEREST_HEARTBEAT_INTERVAL_S": "9"}, ["heartbeat_interval_s is 9", "a third"]),
        ({"INTEREST_APP_ID": "a b"}, ["app_id", "'a b'"]),
        ({"INTEREST_SECURITY_PROTOCOL": "TLS"}, ["security_protocol", "'TLS'", "SASL_SSL"]),
        ({"INTEREST_SECURITY_PROTOCOL": "SASL_SSL"}, ["sasl_username must be set"]),
        ({"INTEREST_SASL_USERNAME": "u"}, ["sasl_username is set", "PLAINTEXT"]),
        (
            {"INTEREST_SECURITY_PROTOCOL": "SASL_SSL", "INTEREST_SASL_USERNAME": "u"},
            ["one of sasl_password and sasl_password_file"],
        ),
        (
            {
                "INTEREST_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "INTEREST_SASL_USERNAME": "u",
                "INTEREST_SASL_PASSWORD": "p",
                "INTEREST_SASL_MECHANISM": "PLAIN",
            },
            ["in the clear"],
        ),
        ({"INTEREST_API_TOKEN": "t" * 16}, ["http_port is 0", "set http_port"]),
        (
            {
                "INTEREST_API_TOKEN": "t" * 16,
                "INTEREST_API_TOKEN_FILE": "f",
                "INTEREST_HTTP_PORT": "80",
            },
            ["api_token and api_token_file are both set"],
        ),
        ({"INTEREST_HTTP_URL": "worker-0:8080"}, ["http_url", "'worker-0:8080'"]),
    ],
)
def test_a_wrong_setting_is_one_line_with_name_found_and_allowed(
    environ: dict[str, str], says: list[str]
) -> None:
    with pytest.raises(FixSettings) as caught:
        load(environ)
    assert "\n" not in str(caught.value)
    for part in says:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["http_url", "otlp_endpoint"])
def test_a_password_in_an_address_is_refused_and_not_shown(name: str) -> None:
    with pytest.raises(FixSettings, match=f"{name} holds a user or a password") as caught:
        load({f"INTEREST_{name.upper()}": "https://me:hunter2@host:4318"})
    assert "hunter2" not in str(caught.value)


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(FixSettings, match=r"partitions.*update_format"):
        load({"INTEREST_PARTITIONS": "0", "INTEREST_UPDATE_FORMAT": "xml"})


@pytest.mark.parametrize(
    ("text", "says"),
    [("partitions = ", "cannot be read"), ("colour = 1", "unknown setting colour")],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(text)
    with pytest.raises(FixSettings, match=says):
        load({}, config)


def test_a_missing_file_is_refused_only_where_it_was_named(tmp_path: Path) -> None:
    with pytest.raises(FixSettings, match="does not exist"):
        load({}, tmp_path / "none.toml")
    assert load({}).partitions == 8


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().partitions = 9  # type: ignore[misc]


def test_every_setting_is_explained() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
