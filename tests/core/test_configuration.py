"""Settings: every problem at once, secrets never shown, files in place of secrets."""

from __future__ import annotations

import pickle

import pytest
from eth_account import Account

from orchestrator.config import ChainConfig, Need, load
from orchestrator.errors import ConfigurationError

KEY, OTHER_KEY = "0x" + "1f" * 32, "0x" + "2e" * 32
WALLET, OTHER_WALLET = (Account.from_key(key).address for key in (KEY, OTHER_KEY))
PASSWORD = "correct-horse"
CONTRACT = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
GOOD = {
    "DATABASE_URL": f"postgresql://user:{PASSWORD}@host/database",
    "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
    "AWS_REGION": "eu-central-1",
    "KMS_KEY_ID": "alias/approver",
    "KURO_WEBSOCKET_URL": "ws://kuro/events",
    "KURO_REST_URL": "http://kuro/api",
    "CHAIN_IDS": "5920",
    "KADENA_EVM_CHAIN_5920_RPC": "http://one, https://two",
    "STABLECOIN_CONTRACT_ADDRESS_5920": CONTRACT.lower(),
    "RELAYER_PRIVATE_KEY_5920": f"{KEY},{OTHER_KEY}",
}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """What the machine happens to have set must not matter here."""
    for name in ("HOST", "PORT", "LOG_LEVEL", *GOOD):
        monkeypatch.delenv(name, raising=False)


def problems(environ, needs=()) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        load(needs, environ)
    text = str(caught.value)
    for secret in (KEY, OTHER_KEY, KEY[2:], OTHER_KEY[2:], PASSWORD):
        assert secret not in text
        assert secret not in repr(caught.value)
    return caught.value.problems


def test_a_whole_configuration():
    config = load(list(Need), GOOD)
    assert config.kafka.servers == "broker:9092"
    assert config.database_url == GOOD["DATABASE_URL"]
    chain = config.chains[5920]
    assert chain.rpc_urls == ("http://one", "https://two")
    assert (chain.contract, chain.wallets) == (CONTRACT, (WALLET, OTHER_WALLET))
    assert (chain.confirmations, chain.start_block) == (6, 0)
    assert config.terms.chains[5920].wallets == (WALLET, OTHER_WALLET)
    assert config.terms.approval_ttl_seconds == 86_400


def test_secrets_are_never_in_text():
    config = load(list(Need), GOOD)
    shown = [config, config.settings, config.chains, config.terms, *config.chains.values()]
    shown += [config.settings.model_dump(), config.chains[5920].private_keys]
    for thing in shown:
        for text in (str(thing), repr(thing), f"{thing!s:.5000}"):
            assert PASSWORD not in text
            assert KEY[2:] not in text
            assert OTHER_KEY[2:] not in text
    assert PASSWORD not in config.settings.model_dump_json()
    assert KEY in [key.get_secret_value() for key in config.chains[5920].private_keys]


def test_everything_that_is_missing_is_named_at_once():
    found = problems({"CHAIN_IDS": "5920,5921"}, list(Need))
    named = [text.partition(":")[0] for text in found]
    for chain in ("5920", "5921"):
        for setting in (
            f"KADENA_EVM_CHAIN_{chain}_RPC",
            f"STABLECOIN_CONTRACT_ADDRESS_{chain}",
            f"RELAYER_PRIVATE_KEY_{chain}",
        ):
            assert named.count(setting) == 1
    for setting in ("DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "AWS_REGION", "KMS_KEY_ID"):
        assert named.count(setting) == 1
    assert {"KURO_WEBSOCKET_URL", "KURO_REST_URL"} <= set(named)
    assert all("missing; give" in text for text in found)


def test_everything_that_is_wrong_is_named_at_once():
    wrong = {
        "PORT": "65536",
        "LOG_LEVEL": "LOUD",
        "CONFIRMATIONS": "-1",
        "APPROVAL_TTL_SECONDS": "1h",
        "KAFKA_PREFIX": "Not Allowed",
        "FEE_CAP_WEI": "0",
        "CHAIN_IDS": "5920",
        "KURO_MINT_CHAIN_ID": "7",
        "KADENA_EVM_CHAIN_5920_RPC": "http://one,ftp://two",
        "STABLECOIN_CONTRACT_ADDRESS_5920": "0x12",
        "RELAYER_PRIVATE_KEY_5920": f"{KEY},{KEY[:-1]}",
        "RELAYER_ADDRESS_5920": "nobody",
        "CONFIRMATIONS_5920": "six",
        "START_BLOCK_5920": "-5",
        "DATABASE_URL_FILE": "/nonexistent/url",
    }
    found = problems(wrong, [Need.KURO])
    named = {text.partition(":")[0] for text in found}
    assert named == set(wrong) - {"CHAIN_IDS"} | {"KURO_WEBSOCKET_URL", "KURO_REST_URL"}
    assert any("URL 2" in text for text in found)
    assert any("key 2" in text for text in found)


def test_only_what_is_needed_is_demanded():
    load([], {})
    load([Need.KAFKA], {"KAFKA_BOOTSTRAP_SERVERS": "b:1"})
    found = problems({}, [Need.DATABASE])
    assert [text.partition(":")[0] for text in found] == ["DATABASE_URL"]


def test_secrets_may_stand_in_files(tmp_path):
    (tmp_path / "url").write_text(GOOD["DATABASE_URL"] + "\n")
    (tmp_path / "keys").write_text(f"{KEY},\n {OTHER_KEY}\n")
    files = {
        "DATABASE_URL_FILE": str(tmp_path / "url"),
        "RELAYER_PRIVATE_KEY_5920_FILE": str(tmp_path / "keys"),
    }
    environ = {name: text for name, text in GOOD.items() if name + "_FILE" not in files}
    config = load(list(Need), environ | files)
    assert config.database_url == GOOD["DATABASE_URL"]
    assert config.chains[5920].wallets == (WALLET, OTHER_WALLET)


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b""])
def test_files_that_cannot_be_read_are_named(tmp_path, content):
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    environ = {"RELAYER_PRIVATE_KEY_5920_FILE": str(path), "CHAIN_IDS": "5920"}
    found = problems(environ, [Need.WALLET_KEYS])
    assert any("RELAYER_PRIVATE_KEY_5920" in text for text in found)


@pytest.mark.parametrize(
    ("keys", "addresses"),
    [
        (KEY, OTHER_WALLET),
        (f"{KEY},{KEY}", ""),
        ("", f"{WALLET},{WALLET.lower()}"),
        ("0x" + "0" * 64, ""),
        ("0x" + "f" * 64, ""),
        ("0xzz", ""),
        (f"{KEY} {OTHER_KEY}", ""),
    ],
)
def test_wallets_that_cannot_be_are_named(keys, addresses):
    environ = {
        "CHAIN_IDS": "5920",
        "RELAYER_PRIVATE_KEY_5920": keys,
        "RELAYER_ADDRESS_5920": addresses,
    }
    assert problems(environ)


def test_addresses_serve_processes_that_have_no_keys():
    environ = {"CHAIN_IDS": "5920", "RELAYER_ADDRESS_5920": WALLET.lower()}
    config = load([Need.WALLETS], environ)
    assert config.chains[5920].wallets == (WALLET,)
    assert problems(environ, [Need.WALLET_KEYS])


def test_defaults_and_alternatives():
    config = load([], {"EVM_CHAIN_5920_RPC": "http://other", "CONFIRMATIONS": "3"})
    assert list(config.chains) == [5920, 5921, 5922, 5923, 5924]
    assert config.chains[5920].rpc_urls == ("http://other",)
    assert config.chains[5924].confirmations == 3
    single = load([], {"CHAIN_IDS": " 7,7, 8", "CONFIRMATIONS_7": "0", "LOG_LEVEL": "debug"})
    assert list(single.chains) == [7, 8]
    assert (single.chains[7].confirmations, single.chains[8].confirmations) == (0, 6)
    assert single.settings.log_level == "DEBUG"


@pytest.mark.parametrize("text", ["", "   ", "a", "1,b", "-1", "1.5"])
def test_chain_ids_that_are_none(text):
    if text:
        assert any("CHAIN_IDS" in problem for problem in problems({"CHAIN_IDS": text}))
    else:
        assert list(load([], {"CHAIN_IDS": text}).chains)


def test_a_chain_configuration_hides_its_keys():
    chain = load([], GOOD).chains[5920]
    assert isinstance(chain, ChainConfig)
    assert "private_keys" not in repr(chain)
    assert KEY[2:].encode() in pickle.dumps(chain.private_keys[0].get_secret_value())


def test_the_given_environment_alone_counts(monkeypatch):
    """pydantic-settings would read the process's own environment besides what it is given."""
    monkeypatch.setenv("PORT", "77")
    assert load([], {}).settings.port == 3000


@pytest.mark.parametrize("text", ["²", "9" * 5000])
def test_counts_that_python_cannot_convert_are_problems(text):
    assert problems({"CHAIN_IDS": "5920", "CONFIRMATIONS_5920": text})


@pytest.mark.parametrize(
    "setting",
    [
        "RELAYER_ADDRESS_5920",
        "STABLECOIN_CONTRACT_ADDRESS_5920",
        "RELAYER_PRIVATE_KEY_5920_FILE",
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(setting):
    assert problems({"CHAIN_IDS": "5920", setting: KEY})


@pytest.mark.parametrize(("within", "fits"), [("0", True), ("90", True), ("89", False)])
def test_a_comparison_is_demanded_no_oftener_than_it_is_made(within, fits):
    given = GOOD | {"SUPPLY_COMPARE_SECONDS": "45", "SUPPLY_COMPARED_WITHIN_SECONDS": within}
    if fits:
        assert load((), given).settings.supply_compared_within_seconds == float(within)
        return
    [problem] = problems(given)
    assert problem.startswith("SUPPLY_COMPARED_WITHIN_SECONDS: ") and "at least twice" in problem
