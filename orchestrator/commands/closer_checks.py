"""What `orchestrator doctor` finds out by looking twice: one answer beside another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.commands.beginnings import REMEDY, RUNBOOK, what_is_lost
from orchestrator.commands.findings import Check, State
from orchestrator.config import ChainConfig, Config
from orchestrator.core.chain import Head
from orchestrator.errors import OrchestratorError, SigningProblem

LAGGING_SECONDS = 60
"""Of a node's newest block behind that of another node of the chain."""
REBUILD = f"an older archive was restored? orchestrator rebuild --shorter-log; see {RUNBOOK}"
NOT_TOLD = "compare with orchestrator topics acls as an administrator; see the line on Kafka"
PERMIT = "run deploy/security/kafka-acls.sh (of orchestrator topics acls --sh) as an administrator"


async def lost_log(config: Config) -> list[Check]:
    """A broker without topics that the tables were made from is no new installation."""
    try:
        lost = await what_is_lost(config)
    except OrchestratorError:
        return []
    return [] if lost is None else [Check("log", State.BROKEN, lost, REMEDY)]


def not_begun_anew(checks: list[Check]) -> list[Check]:
    """Where the log is lost, nothing advises to begin a new one."""
    if not any(check.subject == "log" and check.remedy == REMEDY for check in checks):
        return checks
    return [
        replace(check, remedy="see `log`: begin no new one")
        if check.detail.startswith("topics are missing")
        else check
        for check in checks
    ]


def projecting(ok: bool, detail: str) -> Check:
    """`ahead of the log`: see `projections.consumer`."""
    if ok:
        return Check("projection", State.WELL, detail)
    remedy = REBUILD if "ahead of the log" in detail else "run: orchestrator project"
    return Check("projection", State.WARNING, detail, remedy)


async def kafka_rights(config: Config, roles: Sequence[str]) -> list[Check]:
    """Of each role: what it does with topics, and may not. Without roles, of the one that bears the
    principal's name."""
    from orchestrator.kafka_permissions import lacking, role_of

    prefix = config.settings.kafka_prefix
    own = role_of(config.kafka, prefix)
    checks = []
    for role in roles or ([own] if own else []):
        subject = f"Kafka rights of {role}"
        try:
            absent = await lacking(config.kafka, role, prefix)
        except OrchestratorError as error:
            checks.append(Check(subject, State.WARNING, str(error), NOT_TOLD))
            continue
        if absent:
            detail = f"this principal may not {', '.join(absent)}"
            checks.append(Check(subject, State.BROKEN, detail, PERMIT))
        else:
            checks.append(Check(subject, State.WELL, "all that it does with topics is allowed"))
    return checks


async def signing(config: Config) -> Check:
    """Whether this process's own identity could sign. An operator's may well not."""
    from orchestrator.adapters.kms import KmsSigner

    settings = config.settings
    assert settings.kms_key_id is not None and settings.aws_region is not None
    signer = KmsSigner(
        settings.kms_key_id, settings.aws_region, endpoint_url=settings.aws_endpoint_url_kms
    )
    try:
        refusal = await signer.refusal()
    finally:
        await signer.close()
    if refusal is None:
        return Check("KMS, signing", State.WELL, "this identity could sign (a dry run)")
    if refusal.problem is SigningProblem.DENIED:
        remedy = (
            "as it should be for an operator; of the signing role, mend the policy "
            "(deploy/security/kms-policy.json), the credentials or the clock"
        )
        return Check("KMS, signing", State.WARNING, f"this identity may not: {refusal}", remedy)
    return Check("KMS, signing", State.WARNING, str(refusal), "see docs/runbooks/kms-down.md")


def compared(chain: ChainConfig, nodes: Sequence[tuple[Check, Head | None]]) -> list[Check]:
    """Nodes of one chain beside each other."""
    heads = [head for _, head in nodes if head is not None]
    newest = max(heads, key=lambda head: head.number, default=None)
    checks = []
    for number, (check, head) in enumerate(nodes, 1):
        behind = 0 if head is None or newest is None else newest.timestamp - head.timestamp
        if behind < LAGGING_SECONDS:
            checks.append(check)
            continue
        name = f"KADENA_EVM_CHAIN_{chain.chain_id}_RPC"
        checks.append(
            replace(
                check,
                state=State.WARNING,
                detail=f"{check.detail}: {behind} s behind another node",
                remedy=f"take URL {number} out of {name}, or put it last",
            )
        )
    return checks
