"""Settings: everything from the environment, checked at once, secrets never shown.

`env.example` lists every setting with its meaning; a test compares it with this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from limits import parse as parse_limit
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from orchestrator.core.contract import Profile
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.core.policy import address_or_none
from orchestrator.core.profiles import profile_of
from orchestrator.core.terms import ChainTerms, Terms
from orchestrator.errors import ConfigurationError
from orchestrator.exposures import Exposure, exposures
from orchestrator.kafka_access import KafkaAccess, SaslMechanism, SecurityProtocol
from orchestrator.kafka_settings import kafka_access
from orchestrator.network_settings import Networks
from orchestrator.registry_settings import NO_REGISTRY, Registry, registry_of
from orchestrator.sealing.settings import Anchors
from orchestrator.tokens import parse_tokens
from orchestrator.wallet_settings import addresses_of, private_keys_of, text_of_file

DEFAULT_CHAIN_IDS = (5920, 5921, 5922, 5923, 5924)
LONGEST_NUMBER = 18
"""Digits; what is longer is no block number and no chain id."""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER


def _limit(value: Any) -> Any:
    """`100/15minutes`, or `off`."""
    if value != "off":
        try:
            parse_limit(value)
        except (ValueError, TypeError):
            raise ValueError("a limit such as 100/15minutes or 10/second, or off") from None
    return value


RateLimit = Annotated[str, BeforeValidator(_limit)]


class Need(StrEnum):
    """What a role cannot do without; only what is needed is demanded."""

    KAFKA = "KAFKA"
    DATABASE = "DATABASE"
    KMS = "KMS"
    KURO = "KURO"
    NODES = "NODES"
    CONTRACTS = "CONTRACTS"
    WALLETS = "WALLETS"
    """Addresses of the relaying wallets."""
    WALLET_KEYS = "WALLET_KEYS"


class Settings(BaseModel):
    """Settings that do not depend on a chain. Times in seconds, amounts in wei."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: SecretStr | None = None
    kafka_bootstrap_servers: str | None = None
    kafka_prefix: Annotated[str, Field(pattern=r"^[a-z0-9.-]{1,80}$")] = "orchestrator"
    kafka_replication_factor: Annotated[int, Field(ge=0, le=10)] = 0
    kafka_security_protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    kafka_sasl_mechanism: SaslMechanism | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_file: str | None = None
    kafka_ssl_certificate_file: str | None = None
    kafka_ssl_key_file: str | None = None
    kafka_ssl_key_password: SecretStr | None = None
    require_tls: bool = False
    aws_region: str | None = None
    kms_key_id: str | None = None
    aws_endpoint_url_kms: str | None = None
    signing_guard_url: SecretStr | None = None
    signing_guard_margin_seconds: Annotated[int, Field(ge=0, le=86_400)] = 120
    seal_kms_key_id: str | None = None
    seal_anchors: Anchors = ()
    seal_public_keys_file: str | None = None
    aws_endpoint_url_s3: str | None = None
    kms_concurrency: Annotated[int, Field(ge=1, le=1000)] = 32
    state_dir: str | None = None
    chain_ids: tuple[int, ...] = DEFAULT_CHAIN_IDS
    kuro_websocket_url: str | None = None
    kuro_rest_url: str | None = None
    kuro_mint_chain_id: int = 5920
    kuro_rest_interval_seconds: Annotated[float, Field(gt=0)] = 30.0
    approval_ttl_seconds: Annotated[int, Field(ge=60)] = 86_400
    confirmations: Annotated[int, Field(ge=0, le=100_000)] = 6
    head_poll_seconds: Annotated[float, Field(ge=0.05, le=60)] = 0.25
    supply_compare_seconds: Annotated[float, Field(ge=1, le=3600)] = 60.0
    supply_compared_within_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0.0
    lane_in_flight_limit: Annotated[int, Field(ge=1, le=100_000)] = 1024
    fee_cap_wei: Annotated[int, Field(ge=1)] = 500 * 10**9
    priority_fee_wei: Annotated[int, Field(ge=0)] = 10**9
    replace_after_blocks: Annotated[int, Field(ge=1, le=10_000)] = 5
    gas_learning: bool = True
    wallet_low_wei: Annotated[int, Field(ge=0)] = 10**17
    host: str = "0.0.0.0"  # noqa: S104 - a service in a container listens on all its addresses
    port: Annotated[int, Field(ge=0, le=65_535)] = 3000
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    webhooks_file: str | None = None
    webhooks_allow_http: bool = False
    feed_connections_per_address: Annotated[int, Field(ge=1, le=100_000)] = 20
    api_tokens: SecretStr | None = None
    api_rate_limit: RateLimit = "100/15minutes"
    api_rate_limit_page: RateLimit = "3000/15minutes"
    api_rate_limit_monitoring: RateLimit = "6000/15minutes"
    api_rate_limit_token: RateLimit = "6000/15minutes"  # noqa: S105 - a number
    api_rate_limit_store_url: SecretStr | None = None
    api_trusted_proxies: Networks = ()
    otel_exporter_otlp_endpoint: Annotated[str | None, Field(pattern=r"^https?://")] = None
    token_decimals: Annotated[int, Field(ge=0, le=36)] = 18
    log_level: Annotated[str, Field(pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"

    @field_validator("chain_ids", mode="before")
    @classmethod
    def _list_of_ids(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(",") if part.strip()]
            if not parts or not all(_is_number(part) for part in parts):
                raise ValueError("a comma-separated list of chain ids, for example 5920,5921")
            if any(int(part) == 0 for part in parts):
                raise ValueError("0 is no chain id")
            return tuple(dict.fromkeys(int(part) for part in parts))
        return value

    @field_validator("supply_compared_within_seconds")
    @classmethod
    def _within(cls, value: float, info: ValidationInfo) -> float:
        if 0 < value < 2 * info.data.get("supply_compare_seconds", 0):
            raise ValueError("must be 0, or at least twice SUPPLY_COMPARE_SECONDS")
        return value

    @field_validator("api_tokens")
    @classmethod
    def _tokens(cls, value: SecretStr | None) -> SecretStr | None:
        """Never repeats an entry: it may hold a token by mistake."""
        faults = parse_tokens(value.get_secret_value())[1] if value else []
        if faults:
            raise ValueError("; ".join(faults))
        return value

    @field_validator("api_rate_limit_store_url")
    @classmethod
    def _store(cls, value: SecretStr | None) -> SecretStr | None:
        schemes = ("redis://", "rediss://", "valkey://", "valkeys://")
        if value and not value.get_secret_value().startswith(schemes):
            raise ValueError("must begin with " + ", ".join(schemes))
        return value

    @field_validator("log_level", "kafka_security_protocol", "kafka_sasl_mechanism", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value


CHAIN_SETTINGS = (
    "KADENA_EVM_CHAIN_<id>_RPC",
    "EVM_CHAIN_<id>_RPC",
    "STABLECOIN_CONTRACT_ADDRESS_<id>",
    "CONTRACT_PROFILE_<id>",
    "CONTRACT_TOKEN_NAME_<id>",
    "RELAYER_PRIVATE_KEY_<id>",
    "RELAYER_ADDRESS_<id>",
    "CONFIRMATIONS_<id>",
    "START_BLOCK_<id>",
    "KYC_REGISTRY_CONTRACT_ADDRESS_<id>",
    "KYC_REGISTRY_FUNCTION_<id>",
)
"""Settings per chain; `<id>` stands for the chain id."""

FILE_SETTINGS = (
    "DATABASE_URL_FILE",
    "SIGNING_GUARD_URL_FILE",
    "API_TOKENS_FILE",
    "KAFKA_SASL_PASSWORD_FILE",
    "KAFKA_SSL_KEY_PASSWORD_FILE",
    "RELAYER_PRIVATE_KEY_<id>_FILE",
)
"""Secrets may stand in files instead."""

COMMAND_SETTINGS = (
    "ORCHESTRATOR_API_URL",
    "ORCHESTRATOR_API_TOKEN",
    "ORCHESTRATOR_API_TOKEN_FILE",
)
"""Where commands that ask the API find it; no process of the service reads them."""


@dataclass(frozen=True, slots=True)
class ChainConfig:
    """One chain. `private_keys` (0x hex) and `rpc_urls` (they may hold a token) are never shown."""

    chain_id: int
    rpc_urls: tuple[str, ...] = field(repr=False)
    contract: str
    wallets: tuple[str, ...]
    confirmations: int
    start_block: int
    private_keys: tuple[SecretStr, ...] = field(default=(), repr=False)
    profile: Profile = ORCHESTRATOR
    registry: Registry = NO_REGISTRY


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of a process, checked."""

    settings: Settings
    chains: Mapping[int, ChainConfig]
    kafka_if_given: KafkaAccess | None = None
    exposures: tuple[Exposure, ...] = ()
    """What goes to other machines in the clear."""

    @property
    def terms(self) -> Terms:
        return Terms(
            chains={
                chain.chain_id: ChainTerms(
                    chain.chain_id, chain.contract, chain.wallets, chain.profile
                )
                for chain in self.chains.values()
            },
            approval_ttl_seconds=self.settings.approval_ttl_seconds,
        )

    @property
    def kafka(self) -> KafkaAccess:
        assert self.kafka_if_given is not None
        return self.kafka_if_given

    @property
    def database_url(self) -> str:
        assert self.settings.database_url is not None
        return self.settings.database_url.get_secret_value()

    @property
    def signing_guard(self) -> tuple[str | None, bool]:
        """Where the guard keeps its record, and whether that is a database of its own; else it is
        that of the projections, where this process has one. None: the guard is off."""
        own, shared = self.settings.signing_guard_url, self.settings.database_url
        url = own or shared
        return None if url is None else url.get_secret_value(), own is not None


def load(needs: Iterable[Need], environ: Mapping[str, str] | None = None) -> Config:
    """Read the environment. Raises ConfigurationError that names every problem at once."""
    environ = dict(os.environ if environ is None else environ)
    wanted = frozenset(needs)
    problems: list[str] = []
    values = {
        name: environ[name.upper()] for name in Settings.model_fields if environ.get(name.upper())
    }
    for file_name in FILE_SETTINGS:
        name = file_name.removesuffix("_FILE").lower()
        if name in Settings.model_fields and name not in values and environ.get(file_name):
            values[name] = text_of_file(environ, file_name, problems) or ""
    settings = _settings(values, problems)
    problems += _missing(values, wanted)
    kafka = kafka_access(settings, problems)
    exposed = exposures(settings, environ)
    if settings.require_tls:
        problems += [f"{item.name}: {item.detail}; {item.remedy}" for item in exposed]
    chains = {
        chain_id: _chain(chain_id, environ, settings, wanted, problems)
        for chain_id in settings.chain_ids
    }
    if Need.KURO in wanted and settings.kuro_mint_chain_id not in chains:
        problems.append(f"KURO_MINT_CHAIN_ID: {settings.kuro_mint_chain_id} is not among CHAIN_IDS")
    if problems:
        raise ConfigurationError(problems)
    return Config(settings, chains, kafka, exposed)


def _settings(values: dict[str, str], problems: list[str]) -> Settings:
    """The checked settings; a bad one is named and stands at its default, so that the rest of the
    configuration can be checked in the same run."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
    bad = {str(fault["loc"][0]) for fault in faults}
    problems += [f"{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in faults]
    return Settings.model_validate({name: text for name, text in values.items() if name not in bad})


_PLAIN_NEEDS = {
    Need.KAFKA: {"kafka_bootstrap_servers": "host:port of the brokers, comma-separated"},
    Need.DATABASE: {"database_url": "postgresql://user:password@host/database"},
    Need.KMS: {
        "aws_region": "the region of the KMS key",
        "kms_key_id": "id, ARN or alias of an ECC_SECG_P256K1 key with usage SIGN_VERIFY",
    },
    Need.KURO: {
        "kuro_websocket_url": "for example ws://kuro:8080/events",
        "kuro_rest_url": "for example http://kuro:8080/api",
    },
}


def _missing(values: Mapping[str, str], wanted: frozenset[Need]) -> list[str]:
    return [
        f"{name.upper()}: missing; give {meaning}"
        for need, names in _PLAIN_NEEDS.items()
        if need in wanted
        for name, meaning in names.items()
        if name not in values
    ]


def _chain(
    chain_id: int,
    environ: Mapping[str, str],
    settings: Settings,
    wanted: frozenset[Need],
    problems: list[str],
) -> ChainConfig:
    rpc_name = f"KADENA_EVM_CHAIN_{chain_id}_RPC"
    rpc = environ.get(rpc_name) or environ.get(f"EVM_CHAIN_{chain_id}_RPC") or ""
    urls = tuple(url.strip() for url in rpc.split(",") if url.strip())
    if Need.NODES in wanted and not urls:
        problems.append(f"{rpc_name}: missing; give the node's http(s) URL, or several")
    for number, url in enumerate(urls, 1):
        if not url.startswith(("http://", "https://")):
            problems.append(f"{rpc_name}: URL {number} does not begin with http:// or https://")
    contract_name = f"STABLECOIN_CONTRACT_ADDRESS_{chain_id}"
    contract = environ.get(contract_name, "")
    if Need.CONTRACTS in wanted and not contract:
        problems.append(f"{contract_name}: missing; give the address of the stablecoin contract")
    if contract and address_or_none(contract) is None:
        problems.append(f"{contract_name}: what is given is no address (0x, 40 hex digits, EIP-55)")
    keys = private_keys_of(chain_id, environ, problems)
    addresses = addresses_of(chain_id, environ, keys, problems)
    if Need.WALLET_KEYS in wanted and not keys:
        problems.append(
            f"RELAYER_PRIVATE_KEY_{chain_id}: missing; give one or several 0x hex keys, or their "
            f"file in RELAYER_PRIVATE_KEY_{chain_id}_FILE"
        )
    if Need.WALLETS in wanted and not addresses and Need.WALLET_KEYS not in wanted:
        problems.append(
            f"RELAYER_ADDRESS_{chain_id}: missing; give the wallets' addresses (or their keys)"
        )
    return ChainConfig(
        chain_id=chain_id,
        rpc_urls=urls,
        contract=address_or_none(contract) or "",
        wallets=addresses,
        confirmations=_count(
            f"CONFIRMATIONS_{chain_id}", environ, settings.confirmations, problems
        ),
        start_block=_count(f"START_BLOCK_{chain_id}", environ, 0, problems),
        private_keys=keys,
        profile=_profile(chain_id, environ, problems),
        registry=registry_of(chain_id, environ, problems),
    )


def _profile(chain_id: int, environ: Mapping[str, str], problems: list[str]) -> Profile:
    name = f"CONTRACT_PROFILE_{chain_id}"
    token_name = environ.get(f"CONTRACT_TOKEN_NAME_{chain_id}", "")
    try:
        return profile_of(environ.get(name) or ORCHESTRATOR.name, token_name)
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return ORCHESTRATOR


def _count(name: str, environ: Mapping[str, str], default: int, problems: list[str]) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not _is_number(text):
        problems.append(f"{name}: what is given is no whole number of blocks")
        return default
    return int(text)
