"""Every metric of this service: name, type, unit, labels, meaning, and which process exposes it.

The only place where a metric gets its name; `docs/metrics.md` is drawn from it and compared by a
test. Labels take few values: nothing that clients make up.
`python -m orchestrator.metric_catalogue` prints the table.
"""

from __future__ import annotations

from orchestrator.metric_specs import (
    LASTING,
    OF_BOOKS,
    PREFIX,
    Kind,
    Source,
    Spec,
    counter,
    gauge,
    histogram,
)

__all__ = ["CATALOGUE", "PREFIX", "Kind", "Source", "Spec", "section"]

API, PROJECT, INGEST, SIGN = Source.API, Source.PROJECT, Source.INGEST, Source.SIGN
RELAY, NODES, WEBHOOKS = Source.RELAY, Source.NODES, Source.WEBHOOKS
WORKER = Source.WORKER
_LANE = ("chain_id", "wallet")
_CHAIN = ("chain_id",)

CATALOGUE: dict[str, Spec] = {
    spec.name: spec
    for spec in (
        gauge("requests", API, ("type", "stage"), "Requests in each stage."),
        gauge(
            "oldest_open_request_age_seconds",
            API,
            ("type", "stage"),
            "Age of the oldest request in an open stage, since it was received; absent when the "
            "stage is empty.",
        ),
        histogram(
            "step_seconds",
            PROJECT,
            ("type", "chain_id", "stage"),
            "From entering the stage before to entering this one, by the facts' own times: DRAFTED "
            "after RECEIVED, SIGNED, RELAYING (assigned), SUBMITTED (broadcast), INCLUDED, "
            "COMPLETED (final). `chain_id` is `other` for what was never drafted.",
            LASTING,
        ),
        histogram(
            "request_seconds",
            PROJECT,
            ("type", "chain_id"),
            "From a request's first fact to its completion, by the facts' own times.",
            LASTING,
        ),
        counter(
            "facts_total",
            PROJECT,
            ("topic", "kind"),
            "Facts written to the tables, each place on the log once.",
        ),
        counter(
            "refused_facts_total",
            PROJECT,
            ("verdict",),
            "Facts of `requests` that changed nothing: REPEATED (told again, harmless), CONFLICT "
            "(same id, other content), OUT_OF_ORDER (the stage does not admit it).",
        ),
        counter(
            "deep_reorgs_total",
            PROJECT,
            _CHAIN,
            "Reorganisations deeper than the configured depth; each halts the chain's follower.",
        ),
        counter(
            "retractions_total",
            PROJECT,
            _CHAIN,
            "Contract events that a deep reorganisation took back.",
        ),
        counter(
            "orphaned_transactions_total",
            PROJECT,
            _CHAIN,
            "Included transactions of ours whose block was reorganised away; they go out again.",
        ),
        counter(
            "replaced_transactions_total",
            PROJECT,
            _CHAIN,
            "Transactions sent anew at higher fees on the same nonce.",
        ),
        gauge("dead_letters", API, ("reason",), "Dead letters on the log."),
        gauge(
            "projection_faults", API, (), "Records of the log that the projection could not read."
        ),
        gauge(
            "projection_beat_age_seconds",
            API,
            (),
            "Since a projection writer last gave a sign of life.",
        ),
        gauge(
            "projection_age_seconds",
            API,
            (),
            "All that stood on the log so long ago is in the tables.",
        ),
        gauge(
            "consumer_lag_records",
            API,
            ("group", "topic"),
            "Committed records (transaction markers among them, so a few stay at rest) that a "
            "group has not passed. Groups: `projection`, and the consumer groups of the roles.",
        ),
        gauge(
            "seal_age_seconds",
            API,
            ("anchor",),
            "Since the newest sealed day of an anchor was over: up to about 24 h while each day is "
            "sealed. Absent where no seal is known, and without SEAL_ANCHORS.",
        ),
        gauge(
            "seal_anchor_up",
            API,
            ("anchor",),
            "1 when the anchor was read lately and its newest seal can be believed.",
        ),
        gauge(
            "seal_refused",
            API,
            ("anchor",),
            "1 while what stands there as the newest seal is not to be believed.",
        ),
        gauge("database_up", API, (), "1 when PostgreSQL answered this scrape."),
        gauge("kafka_up", API, (), "1 when Kafka answered this scrape."),
        gauge(
            "chain_followed_block",
            API,
            _CHAIN,
            "The newest block whose events are known to the tables.",
        ),
        gauge(
            "chain_followed_age_seconds",
            API,
            _CHAIN,
            "Since the follower's newest mark on the log (an idle chain is marked every minute).",
        ),
        gauge("chain_block_age_seconds", API, _CHAIN, "Age of that block by the chain's own time."),
        gauge("chain_halted", API, _CHAIN, "1 while the follower waits for a person."),
        gauge("chain_head_block", INGEST, _CHAIN, "The newest block of the node."),
        gauge(
            "chain_head_age_seconds",
            INGEST,
            _CHAIN,
            "Age of the node's newest block by the chain's own time.",
        ),
        gauge(
            "chain_head_lag_blocks",
            INGEST,
            _CHAIN,
            "Blocks of sufficient depth that the follower has not read.",
        ),
        gauge(
            "follower_stuck",
            INGEST,
            _CHAIN,
            "1 while the follower does not move and says why in its log.",
        ),
        gauge("sequence_waiting", RELAY, _CHAIN, "Mints that wait for a nonce of their recipient."),
        gauge("sequence_granted", RELAY, _CHAIN, "Nonces of recipients granted and not used."),
        gauge(
            "sequence_stuck",
            RELAY,
            _CHAIN,
            "1 while nonces of recipients cannot be granted; the log says why.",
        ),
        gauge(
            "held_requests",
            API,
            ("rule",),
            "Mints that a policy holds, by the rule that they breach; one that breaches several "
            "counts under each.",
        ),
        gauge(
            "oldest_hold_age_seconds",
            API,
            ("rule",),
            "For how long the oldest of them has been held; absent where none is.",
        ),
        gauge(
            "policy_in_force",
            WORKER,
            ("version",),
            "1 for the policy that this process knows to be in force, by the first digits of its "
            "version; `none` before the first. Absent until operators' orders were read.",
        ),
        gauge("policy_waiting", RELAY, (), "Mints that wait to be judged by the policy."),
        gauge(
            "policy_stuck",
            RELAY,
            (),
            "1 while the owner of the policies judges nothing; the log says why.",
        ),
        gauge(
            "registry_unasked_seconds",
            RELAY,
            _CHAIN,
            "For how long a chain's KYC registry could not be asked, while mints wait for it; "
            "absent while it answers.",
        ),
        gauge("lane_in_flight", API, _LANE, "Nonces of a lane not spent for good."),
        gauge("lane_halted", API, _LANE, "1 while the lane waits for a person."),
        gauge("lane_waiting", RELAY, _LANE, "Pieces of work of a lane that have no nonce yet."),
        gauge("lane_set_aside", RELAY, _LANE, "1 while the wallet is unfit and takes no new work."),
        gauge("lane_next_nonce", RELAY, _LANE, "The nonce the lane uses next."),
        gauge(
            "lane_chain_nonce",
            RELAY,
            _LANE,
            "The wallet's transaction count at the chain's head when last looked at.",
        ),
        gauge(
            "lane_nonce_gap",
            RELAY,
            _LANE,
            "The lane's next nonce less the chain's count: what is out and not mined. Below zero, "
            "somebody else uses the wallet.",
        ),
        gauge(
            "lane_balance_wei",
            RELAY,
            _LANE,
            "The wallet's balance when last looked at, about every ten seconds.",
        ),
        *OF_BOOKS,
        histogram(
            "kms_request_seconds", SIGN, ("operation",), "Time of a KMS call, failed or not."
        ),
        counter(
            "kms_errors_total",
            SIGN,
            ("operation", "reason"),
            "KMS calls without a usable answer, by `SigningProblem`.",
        ),
        gauge("signing_guard_on", SIGN, (), "1 where a guard is configured, 0 where it is off."),
        gauge("signing_guard_up", SIGN, (), "1 when the guard answered; at 0 nothing is signed."),
        gauge("signing_guard_refused", SIGN, (), "Requests that the guard keeps from KMS now."),
        counter(
            "signing_guard_refusals_total",
            SIGN,
            ("kind",),
            "Signatures that the guard refused, each told once by each process, by `RefusalKind`.",
        ),
        histogram(
            "signing_guard_seconds",
            SIGN,
            (),
            "Time of a round trip to the guard, which records many digests at once.",
        ),
        counter("gate_refusals_total", SIGN, ("kind",), "Refused by the gate, by `ObjectionKind`."),
        gauge("gate_refused", SIGN, (), "Requests that the conservation gate refuses now."),
        gauge("gate_doubts", SIGN, _CHAIN, "Doubts unsettled: while above 0, nothing is signed."),
        gauge("gate_read_age_seconds", SIGN, (), "Since it had read all or began to."),
        gauge("gate_compared_age_seconds", SIGN, _CHAIN, "Since the supply was last compared."),
        gauge("gate_awaits_comparison", SIGN, _CHAIN, "1 while signatures wait for one, else 0."),
        gauge("gate_covered_units", SIGN, _CHAIN, "What Kuro's facts cover, in base units."),
        gauge("gate_minted_units", SIGN, _CHAIN, "Minted by the chain's events, in base units."),
        gauge("gate_approved_units", SIGN, _CHAIN, "Approved here, not minted, in base units."),
        gauge(
            "supply_units", INGEST, _CHAIN, "The `totalSupply` when last compared, in base units."
        ),
        gauge("supply_unexplained_units", INGEST, _CHAIN, "Of it, what no event on the log tells."),
        gauge("supply_untold", INGEST, _CHAIN, "1 while nodes do not tell the supply, else 0."),
        histogram(
            "rpc_request_seconds",
            NODES,
            ("chain_id", "method"),
            "Time of an HTTP request to a node; a batch of one method counts once under it, one of "
            "several as `batch`.",
        ),
        counter(
            "rpc_errors_total",
            NODES,
            ("chain_id", "method", "reason"),
            "Calls that a node did not answer with a result, by `RpcProblem`; a refused "
            "transaction is one too.",
        ),
        gauge(
            "rpc_url_head_block",
            NODES,
            ("role", "chain_id", "node"),
            "The newest block that this URL showed when they were last compared; absent while it "
            "does not answer.",
        ),
        gauge(
            "rpc_url_head_age_seconds",
            NODES,
            ("role", "chain_id", "node"),
            "Age of that block by the chain's own time.",
        ),
        gauge(
            "rpc_url_set_back",
            NODES,
            ("role", "chain_id", "node"),
            "1 while this URL is asked after the others, because its head fell behind theirs.",
        ),
        counter(
            "kuro_messages_total",
            INGEST,
            ("outcome",),
            "Messages from Kuro: `accepted` (new here), `repeated`, `malformed` (dead-lettered), "
            "`ignored` (of other types).",
        ),
        gauge("kuro_connected", INGEST, (), "1 while the socket to Kuro is open."),
        gauge(
            "kuro_silence_seconds",
            INGEST,
            (),
            "Since the socket's last message; absent before the first.",
        ),
        gauge(
            "kuro_list_age_seconds",
            INGEST,
            (),
            "Since the REST list was last read; absent before the first time.",
        ),
        counter(
            "kuro_failures_total",
            INGEST,
            ("way",),
            "Connections that ended (`socket`) and lists that could not be read (`list`).",
        ),
        histogram(
            "http_request_seconds",
            API,
            ("route", "status"),
            "Time to answer an HTTP request, by the route's pattern; feeds are not counted.",
        ),
        gauge("feed_connections", API, (), "Open feeds of this process."),
        counter("feed_events_total", API, (), "Events sent to feeds."),
        counter(
            "webhook_deliveries_total",
            WEBHOOKS,
            ("endpoint", "outcome"),
            "Attempts: `delivered`, `failed` (is tried again), `dead_lettered`.",
        ),
        histogram(
            "webhook_request_seconds",
            WEBHOOKS,
            ("endpoint",),
            "Time until an endpoint answered or did not.",
        ),
        gauge(
            "webhook_dead_letters",
            API,
            ("endpoint",),
            "Events that an endpoint refused and nobody has redelivered.",
        ),
        gauge(
            "webhook_failing_seconds",
            API,
            ("endpoint",),
            "For how long the event in turn has been failing; 0 while all is well.",
        ),
        gauge(
            "webhook_lag_records",
            API,
            ("endpoint",),
            "Committed records of the log that the endpoint's cursor has not passed.",
        ),
    )
}

BEGIN, END = "<!-- metrics:begin -->", "<!-- metrics:end -->"


def section() -> str:
    """The catalogue as the table of docs/metrics.md."""
    lines = [
        BEGIN,
        "| metric | type | unit | labels | exposed by | meaning |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{spec.full_name}` | {spec.kind} | {spec.unit} | "
        f"{', '.join(f'`{label}`' for label in spec.labels) or 'none'} | {spec.source} | "
        f"{spec.meaning} |"
        for spec in CATALOGUE.values()
    ]
    return "\n".join([*lines, END])


if __name__ == "__main__":
    import sys

    sys.stdout.write(section() + "\n")
