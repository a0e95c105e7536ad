"""What `orchestrator doctor` says of the log's seals."""

from __future__ import annotations

from orchestrator.commands.findings import Check, State
from orchestrator.commands.seal import seal_key_of, seal_watch_of
from orchestrator.config import Config
from orchestrator.core.sealing.seals import key_hash
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.sealing.watching import Standing

UNSEALED = "not sealed: SEAL_ANCHORS is not set; a change of the log would not be seen"
HOW = "give SEAL_ANCHORS and run `orchestrator seal` by a schedule; see docs/seals.md"
_SCHEDULE = "run `orchestrator seal`: why did its schedule not? docs/runbooks/seal-overdue.md"


async def seal_checks(config: Config) -> list[Check]:
    """One line an anchor, and one for the key where this environment names one. Not being sealed
    stops nothing: a warning; what is there and is not to be believed is broken."""
    try:
        watch = seal_watch_of(config)
    except ConfigurationError as error:
        return [Check("seals", State.BROKEN, text, "see env.example") for text in error.problems]
    if watch is None:
        return [Check("seals", State.WARNING, UNSEALED, HOW)]
    try:
        standings = await watch.look()
    finally:
        await watch.close()
    checks = [_standing(one, watch.now) for one in standings]
    if config.settings.seal_kms_key_id:
        checks.append(await _key(config))
    return checks


def _standing(one: Standing, now: float) -> Check:
    subject = f"seals in {one.anchor}"
    trouble = one.trouble(now)
    if one.refused is not None:
        remedy = "docs/runbooks/seal-does-not-verify.md"
        return Check(subject, State.BROKEN, trouble or "", remedy)
    if trouble is not None:
        return Check(subject, State.WARNING, trouble, _SCHEDULE)
    age = one.age_seconds(now) or 0.0
    detail = f"sealed up to {one.day}, which has been over for {age / 3600:.0f} h"
    if not one.trusted:
        remedy = "give SEAL_PUBLIC_KEYS_FILE: orchestrator seal key --out seals.pem"
        text = f"{detail}; by a key that nobody here vouches for"
        return Check(subject, State.WARNING, text, remedy)
    return Check(subject, State.WELL, detail)


async def _key(config: Config) -> Check:
    """The key can be read and is one for seals. Whether it may sign is not tried."""
    key = None
    try:
        key = seal_key_of(config)
        public_key = await key.public_key()
    except OrchestratorError as error:
        remedy = "check SEAL_KMS_KEY_ID and deploy/security/kms-seal-policy.json"
        return Check("key of seals", State.BROKEN, str(error), remedy)
    finally:
        if key is not None:
            await key.close()
    return Check("key of seals", State.WELL, f"seals are signed by the key {key_hash(public_key)}")
