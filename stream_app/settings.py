"""Every setting of the worker and the command line: one frozen object, built once at the rim.

Environment variables (``INTEREST_`` and the name in capitals) win over the TOML file, which wins
over the defaults. Unknown names are refused in both, for a misspelt setting is a lost one.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from encoders.config import EncoderConfig
from state.event import WRITTEN_TYPES, EventLimits, EventType
from state.pseudonyms import Pseudonyms
from state.window import WindowPolicy
from stream_app.errors import FixSettings
from stream_app.kafka_access import KafkaAccess, SaslMechanism, SecurityProtocol, first_line
from stream_app.logs import LogStyle

PREFIX = "INTEREST_"
CONFIG_VARIABLE = "INTEREST_CONFIG"
DEFAULT_CONFIG = Path("interest-stream.toml")

_DAY_MS = 86_400_000
_MIB = 1 << 20


class Settings(BaseModel):
    """The settings, with their defaults, bounds and meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    app_id: str = Field(
        "interest-stream",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Consumer group, and the prefix of the changelog topic's name.",
    )
    bootstrap_servers: str = Field(
        "127.0.0.1:9092", min_length=1, description="Kafka brokers, host:port, comma-separated."
    )
    security_protocol: SecurityProtocol = Field(
        "PLAINTEXT", description="With Kafka: TLS (SSL), a user name (SASL), or both (SASL_SSL)."
    )
    ssl_cafile: Path | None = Field(
        None, description="PEM of the authorities that sign brokers. Empty: the system's."
    )
    ssl_certfile: Path | None = Field(
        None, description="PEM of our own certificate, where brokers ask for one."
    )
    ssl_keyfile: Path | None = Field(None, description="PEM of its key, without a passphrase.")
    sasl_mechanism: SaslMechanism = Field(
        "SCRAM-SHA-512", description="How the password is proved. PLAIN: with SASL_SSL only."
    )
    sasl_username: str = Field("", description="Kafka user.")
    sasl_password: SecretStr = Field(
        SecretStr(""), description="Its password; better in a file: sasl_password_file."
    )
    sasl_password_file: Path | None = Field(
        None, description="File whose first line is the password."
    )
    events_topic: str = Field("interest.events", description="Where events come from.")
    items_topic: str = Field("interest.items", description="The catalogue: item id to text.")
    updates_topic: str = Field("interest.updates", description="Where interest vectors go.")
    item_vectors_topic: str = Field("interest.item-vectors", description="Where item vectors go.")
    dead_letters_topic: str = Field(
        "interest.dead-letters", description="Where records go that are no events."
    )
    isolation_level: Literal["read_committed", "read_uncommitted"] = Field(
        "read_committed",
        description="Of events and items: whether records of aborted transactions are left out.",
    )
    partitions: int = Field(
        8, ge=1, le=10_000, description="Of events, changelog and updates, when topics are made."
    )
    replication_factor: int = Field(1, ge=1, le=9, description="Of topics that are made.")
    datadir: Path = Field(
        Path(".run/worker"), description="RocksDB, caches and status.json. One per worker."
    )

    encoder: Literal["transformer", "stub"] = Field(
        "transformer", description="The stub needs no model: for trying and testing the stream."
    )
    model: str = Field(
        "",
        description="Bundle made by `interest-stream export`, instead of text_model, "
        "interest_model, max_text_tokens and vectors.",
    )
    text_model: str = Field(
        "", description="Folder or hub id, safetensors only. Empty: the packaged MiniLM."
    )
    interest_model: str = Field(
        "", description="Folder made by `interest-stream model init`. Empty: untrained, uncentred."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Of the encoder process.")
    encoder_threads: int = Field(1, ge=1, le=256, description="CPU threads of one model operation.")
    text_token_budget: int = Field(
        0, ge=0, le=1 << 20, description="Tokens per forward pass. 0: by device."
    )
    max_text_tokens: int = Field(256, ge=8, le=8192, description="Longer texts are cut.")
    vectors: Literal["float32", "float16"] = Field(
        "float32", description="As kept and published; float16 takes half the space."
    )
    text_cache_rows: int = Field(
        65_536, ge=64, le=1 << 26, description="Texts whose vectors are kept in memory."
    )
    text_cache_bytes: int = Field(
        2048 * _MIB, ge=_MIB, description="Cap of the text vectors on disk, in bytes."
    )
    stub_dimensions: int = Field(32, ge=1, le=4096, description="Of the stub's vectors.")

    update_format: Literal["json", "avro"] = Field("json", description="Of updates.")
    publish_granularities: bool = Field(
        False, description="Put each granularity's own vector into the updates, too."
    )
    publish_interests: bool = Field(
        False, description="Put the K vectors of a model of several interests into them, too."
    )
    publish_item_vectors: bool = Field(True, description="Publish the catalogue's vectors.")

    window_max_events: int = Field(50, ge=1, le=10_000, description="Events held per user.")
    window_max_age_ms: int = Field(
        30 * _DAY_MS, ge=1000, description="Reach of a window behind its newest event."
    )
    window_expiry_ms: int = Field(
        180 * _DAY_MS,
        ge=0,
        description="How much longer than window_max_age_ms a user may be silent, in stream time, "
        "and still be known.",
    )
    window_max_bytes: int = Field(65_536, ge=1024, le=900_000, description="Of one window.")
    max_event_bytes: int = Field(65_536, ge=256, le=900_000, description="Of one event record.")
    max_text_chars: int = Field(4_000, ge=256, description="Of an event's or an item's text.")
    mask_texts: Literal["off", "written", "all"] = Field(
        "written",
        description="E-mail addresses, phone and card numbers in events' texts are masked before "
        "anything is stored: in what users write (search, review), or in every event's own text.",
    )
    pseudonym_key_file: Path | None = Field(
        None,
        description="File whose first line is a key, 32 characters or more: windows, updates and "
        "logs then hold an HMAC of each user id in its place.",
    )
    max_future_ms: int = Field(
        _DAY_MS, ge=0, description="How far time_ms may lie ahead of the record's timestamp."
    )

    micro_batch_linger_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Wait after a small fetch, and for more users while a round is under way.",
    )
    micro_batch_max_users: int = Field(4096, ge=1, le=65_536, description="Users per micro-batch.")
    fetch_max_records: int = Field(
        1000, ge=1, le=100_000, description="Records handed over at once, over all partitions."
    )
    hot_windows_max: int = Field(
        200_000, ge=1, description="Windows kept in memory, over all partitions."
    )
    dirty_users_max: int = Field(
        50_000, ge=1, description="Users not yet stored at which a checkpoint starts at once."
    )
    record_batches_max: int = Field(
        256, ge=2, description="Unacknowledged fetches per partition at which fetching waits."
    )
    checkpoint_interval_ms: int = Field(
        1000, ge=10, le=600_000, description="Time between checkpoints of a partition."
    )

    delivery_timeout_s: float = Field(30, gt=0, description="For a produce to be acknowledged.")
    encode_timeout_s: float = Field(
        60, gt=0, description="For the encoder to answer before it is killed and restarted."
    )
    encoder_start_timeout_s: float = Field(180, gt=0, description="For the encoder to load.")
    broker_wait_s: float = Field(60, ge=0, description="For an unreachable broker, at the start.")
    stop_timeout_s: float = Field(30, gt=0, description="For a clean stop after SIGTERM.")
    session_timeout_s: float = Field(
        10, ge=1, le=1800, description="After which Kafka gives a silent worker's partitions away."
    )
    heartbeat_interval_s: float = Field(1, gt=0, description="Of the group membership.")
    standby_replicas: int = Field(
        0, ge=0, le=8, description="Workers that keep a warm copy of each partition's windows."
    )
    rocksdb_block_cache_bytes: int = Field(
        32 * _MIB, ge=_MIB, description="Read cache of each partition's database."
    )
    http_host: str = Field(
        "127.0.0.1", min_length=1, description="Where metrics, health and the API are served."
    )
    http_port: int = Field(0, ge=0, le=65_535, description="The same. 0: no HTTP server.")
    health_encoder_s: float = Field(
        30, gt=0, description="For the encoder to answer before /health turns red."
    )
    ready_commit_s: float = Field(
        60, gt=0, description="Without a commit, though there is lag, before /ready turns red."
    )
    http_url: str = Field(
        "",
        pattern=r"^(https?://[^/?#\s]+)?$",
        description="How other workers reach this one's HTTP server. Empty: by http_host and "
        "http_port, and by the machine's name where http_host is all its addresses.",
    )
    api_token: SecretStr = Field(
        SecretStr(""), description="Turns the API on: its token; better in a file: api_token_file."
    )
    api_token_file: Path | None = Field(
        None, description="File whose first line is the token, 16 characters or more."
    )
    api_requests_per_s: float = Field(
        50, gt=0, description="Of all clients together; bursts may be twice as many."
    )
    api_max_body_bytes: int = Field(65_536, ge=1024, description="Of one request.")
    api_max_k: int = Field(100, ge=1, le=10_000, description="Items or users in one answer.")
    api_items_max: int = Field(
        200_000, ge=1, description="Item vectors kept for the API, of the latest items."
    )
    api_users_max: int = Field(
        100_000, ge=1, description="Users' vectors kept for audiences, of the latest users."
    )
    otlp_endpoint: str = Field(
        "",
        description="Where traces of micro-batches go, OTLP over HTTP: http://host:4318/v1/traces. "
        "Empty: none are made.",
    )
    trace_share: float = Field(1, ge=0, le=1, description="Of the micro-batches that are traced.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Of what the worker says on stderr."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines for people, or one JSON object per line."
    )
    log_personal_data: bool = Field(
        False, description="Whether ids and texts of users may stand in the log."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_no_path(cls, value: Any, info: ValidationInfo) -> Any:
        """An empty variable unsets a path that may be unset."""
        return None if value == "" and info.field_name in _OPTIONAL_PATHS else value

    @model_validator(mode="after")
    def _may_speak_to_kafka(self) -> Settings:
        with_sasl = self.security_protocol.startswith("SASL")
        if with_sasl and not self.sasl_username:
            raise ValueError(
                f"security_protocol is {self.security_protocol}, so sasl_username must be set"
            )
        if with_sasl and bool(self.sasl_password.get_secret_value()) == bool(
            self.sasl_password_file
        ):
            raise ValueError(
                f"security_protocol is {self.security_protocol}, so one of sasl_password and "
                "sasl_password_file must be set, and not both"
            )
        if not with_sasl and self.sasl_username:
            raise ValueError(
                f"sasl_username is set, but security_protocol is {self.security_protocol}, which "
                "sends none: SASL_SSL or SASL_PLAINTEXT is needed"
            )
        if self.security_protocol == "SASL_PLAINTEXT" and self.sasl_mechanism == "PLAIN":
            raise ValueError(
                "sasl_mechanism PLAIN would send the password in the clear: set security_protocol "
                "to SASL_SSL, or another mechanism"
            )
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.window_max_bytes < self.max_event_bytes:
            raise ValueError(
                f"window_max_bytes is {self.window_max_bytes}, must be at least max_event_bytes "
                f"({self.max_event_bytes}), or a single event would not fit"
            )
        if self.heartbeat_interval_s * 3 > self.session_timeout_s:
            raise ValueError(
                f"heartbeat_interval_s is {self.heartbeat_interval_s}, must be at most a third of "
                f"session_timeout_s ({self.session_timeout_s})"
            )
        return self

    @model_validator(mode="after")
    def _api_can_be_reached(self) -> Settings:
        in_settings = bool(self.api_token.get_secret_value())
        if in_settings and self.api_token_file:
            raise ValueError("api_token and api_token_file are both set: one of them is the token")
        if self.serves_api and not self.http_port:
            raise ValueError(
                "an API token is set, but http_port is 0, so nothing serves the API: set http_port"
            )
        return self

    @model_validator(mode="after")
    def _no_password_in_an_address(self) -> Settings:
        for name in ("http_url", "otlp_endpoint"):
            if "@" in getattr(self, name).partition("://")[2].partition("/")[0]:
                raise ValueError(
                    f"{name} holds a user or a password, which logs would show: leave them out "
                    "(a collector's go into OTEL_EXPORTER_OTLP_HEADERS)"
                )
        return self

    @property
    def serves_api(self) -> bool:
        """Whether the API is on."""
        return bool(self.api_token.get_secret_value() or self.api_token_file)

    @property
    def changelog_topic(self) -> str:
        """Name of the windows' changelog topic."""
        return f"{self.app_id}-windows-changelog"

    @property
    def kafka(self) -> KafkaAccess:
        """How every client of ours reaches Kafka."""
        return KafkaAccess(
            self.bootstrap_servers,
            self.security_protocol,
            self.ssl_cafile,
            self.ssl_certfile,
            self.ssl_keyfile,
            self.sasl_mechanism,
            self.sasl_username,
            self.sasl_password.get_secret_value(),
            self.sasl_password_file,
        )

    def log_style(self) -> LogStyle:
        """Return how and what the worker writes on stderr."""
        return LogStyle(self.log_level, self.log_format, self.log_personal_data)

    def event_limits(self) -> EventLimits:
        """Return what a record may weigh."""
        return EventLimits(
            max_bytes=self.max_event_bytes,
            max_text_chars=self.max_text_chars,
            max_future_ms=self.max_future_ms,
            masked_types=_MASKED_TYPES[self.mask_texts],
            pseudonyms=self.pseudonyms(),
        )

    def pseudonyms(self) -> Pseudonyms | None:
        """Return what takes the place of user ids.

        Raises:
            FixSettings: the key cannot be read, or is too short.
        """
        if self.pseudonym_key_file is None:
            return None
        try:
            return Pseudonyms(first_line(self.pseudonym_key_file, "pseudonym_key_file"))
        except ValueError as error:
            raise FixSettings(f"pseudonym_key_file {self.pseudonym_key_file}: {error}") from None

    def key_of(self, user_id: str) -> bytes:
        """Return the key under which windows and updates of a user are.

        Raises:
            FixSettings: as :meth:`pseudonyms`.
        """
        pseudonyms, key = self.pseudonyms(), user_id.encode()
        return key if pseudonyms is None else pseudonyms.of_key(key)

    def window_policy(self) -> WindowPolicy:
        """Return the caps of a window."""
        return WindowPolicy(
            self.window_max_events,
            self.window_max_age_ms,
            self.window_max_bytes,
            self.window_expiry_ms,
        )

    def encoder_config(self) -> EncoderConfig:
        """Return what the encoder process is built from."""
        return EncoderConfig(
            kind=self.encoder,
            model=self.model,
            text_model=self.text_model,
            interest_model=self.interest_model,
            device=self.device,
            threads=self.encoder_threads,
            token_budget=self.text_token_budget,
            max_text_tokens=self.max_text_tokens,
            vectors=self.vectors,
            slab_rows=self.text_cache_rows,
            cache_dir=str(self.datadir / "text-cache"),
            cache_max_bytes=self.text_cache_bytes,
            stub_dimensions=self.stub_dimensions,
        )


_MASKED_TYPES = {
    "off": frozenset[EventType](),
    "written": WRITTEN_TYPES,
    "all": frozenset(EventType),
}
_OPTIONAL_PATHS = frozenset(
    name for name, field in Settings.model_fields.items() if field.annotation == Path | None
)
_SECRETS = frozenset(
    name for name, field in Settings.model_fields.items() if field.annotation is SecretStr
)
"""Never shown, whatever is wrong with them."""


def as_text(settings: Settings) -> dict[str, str]:
    """Return every setting as its environment variable would hold it, secrets included."""
    return {
        name: value.get_secret_value()
        if isinstance(value, SecretStr)
        else ""
        if value is None
        else str(value)
        for name, value in settings.model_dump().items()
    }


def load(
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings from the environment, a TOML file and the command line's ``overrides``.

    Raises:
        FixSettings: one line that names each wrong setting, what was found and what is allowed.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = _from_file(environ, config)
    for name, value in environ.items():
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE:
            values[name.removeprefix(PREFIX).lower()] = value
    values.update(overrides or {})
    return checked(values)


def checked(values: Mapping[str, Any]) -> Settings:
    """Return the settings that have these values.

    Raises:
        FixSettings: one line that names each wrong setting, what was found and what is allowed.
    """
    try:
        return Settings(**values)
    except ValidationError as error:
        raise FixSettings("; ".join(map(_sentence, error.errors()))) from None


def _from_file(environ: Mapping[str, str], config: Path | None) -> dict[str, Any]:
    named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    path = named or DEFAULT_CONFIG
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        if named is None:
            return {}
        raise FixSettings(f"settings file {path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise FixSettings(f"settings file {path} cannot be read: {error}") from None


def _sentence(error: Any) -> str:
    name = ".".join(map(str, error["loc"]))
    if not name:
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return (
            f"unknown setting {name} ({PREFIX}{name.upper()}): "
            "`interest-stream settings` lists all there are"
        )
    message = str(error["msg"])
    message = message[:1].lower() + message[1:]  # no more: allowed values may be capitals
    if name in _SECRETS:
        return f"setting {name} ({PREFIX}{name.upper()}): {message}"
    return f"setting {name} ({PREFIX}{name.upper()}) is {error['input']!r}: {message}"
