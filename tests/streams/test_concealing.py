"""Known secrets do not pass the log's last door, whoever writes them; all else does."""

from __future__ import annotations

from orchestrator.concealing import MARK, Concealing, secrets_in

SETTINGS = {
    "DATABASE_URL": "postgresql://ann:pass%40word-1@db.example/money?sslmode=require",
    "KADENA_EVM_CHAIN_5920_RPC": "https://n.example/v3/0a1b2c3d4e5f, https://b.io?key=abcd1234",
    "RELAYER_PRIVATE_KEY_5920": "0x" + "5E" * 32,
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20otlp-secret-1",
    "AWS_SECRET_ACCESS_KEY": "short",
    "KURO_REST_URL": "https://kuro.example/api",
    "PORT": "30003000",
}


def test_what_is_secret_in_the_settings_is_found(tmp_path):
    file = tmp_path / "keys"
    file.write_text("0x" + "6f" * 32 + "\n# a comment\n")
    found = secrets_in(
        {**SETTINGS, "RELAYER_PRIVATE_KEY_5921_FILE": str(file), "API_TOKENS_FILE": "/nowhere"}
    )
    wanted = {"pass%40word-1", "pass@word-1", "0a1b2c3d4e5f", "abcd1234", "otlp-secret-1"}
    assert found >= {*wanted, "5E" * 32, "6f" * 32}
    assert not found & {"short", "30003000", "db.example", "money", "kuro.example", "api"}


def test_they_are_taken_out_in_whatever_case():
    conceal = Concealing(secrets_in(SETTINGS))
    told = conceal(f"cannot sign with 0x{'5e' * 32} at https://n.example/v3/0A1B2C3D4E5F")
    assert told == f"cannot sign with 0x{MARK} at https://n.example/v3/{MARK}"
    assert conceal("nothing to hide on db.example") == "nothing to hide on db.example"
    assert Concealing([])("all passes") == "all passes"
