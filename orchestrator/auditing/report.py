"""An audit's report: text for a terminal, JSON for machines, one HTML file to read, print, keep."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Any

from orchestrator.auditing.reading import Run
from orchestrator.core.auditing.checking import Audit
from orchestrator.core.auditing.findings import MEANING, Kind, Note
from orchestrator.core.auditing.profile import BURNS, MINTS

CLEAN, DISCREPANCIES, INCOMPLETE = 0, 1, 2


def verdict(audit: Audit, run: Run) -> int:
    """The exit code. A discrepancy is one, however much could not be judged besides."""
    if audit.findings.discrepancies:
        return DISCREPANCIES
    return INCOMPLETE if run.problems else CLEAN


def as_json(audit: Audit, run: Run, made_at: datetime, seconds: float, log_only: bool) -> Any:
    code = verdict(audit, run)
    total = sum(run.records.values())
    return {
        "verdict": ("CLEAN", "DISCREPANCIES", "INCOMPLETE")[code],
        "exitCode": code,
        "madeAt": made_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round(seconds, 1),
        "logOnly": log_only,
        "facts": {"read": total, "byTopic": run.records, "perSecond": round(total / seconds)},
        "problems": run.problems,
        "chains": [_chain(audit, run, chain_id) for chain_id in sorted(run.standings)],
        "signatures": {
            "checked": audit.requests.signatures,
            "bySigner": audit.requests.seen_signers,
            "comparedWith": sorted(audit.requests.signers) or None,
            "draftsNotRecomputed": audit.requests.unjudged_drafts,
        },
        "deadLetters": {str(reason): count for reason, count in audit.letters.items()},
        "claims": [
            {"kind": kind, "claim": MEANING[kind], "found": audit.findings.counts[kind]}
            for kind in Kind
        ],
        "notes": {
            str(note): audit.findings.counts[note] for note in Note if audit.findings.counts[note]
        },
        "findings": [
            {
                "kind": item.kind,
                "discrepancy": isinstance(item.kind, Kind),
                "chainId": item.chain_id,
                "subject": item.subject,
                "detail": item.detail,
                "positions": list(item.positions),
            }
            for item in audit.findings.shown
        ],
    }


def _chain(audit: Audit, run: Run, chain_id: int) -> dict[str, Any]:
    standing, supply = run.standings[chain_id], audit.supplies.get(chain_id)
    book = audit.chains.get(chain_id)
    names = [book.events.event(index).name for index in book.events.standing()] if book else []
    time = standing.block_time
    return {
        "chainId": chain_id,
        "blockNumber": standing.block_number,
        "blockHash": standing.block_hash,
        "blockTime": None if time is None else datetime.fromtimestamp(time, UTC).isoformat(),
        "problem": standing.problem,
        "mints": names.count(MINTS),
        "burns": sum(names.count(name) for name in BURNS),
        "eventsOnLog": len(names),
        "eventsOnChain": standing.events_on_chain,
        "transactionsOfOurWallets": standing.transactions,
        "supply": None
        if supply is None
        else {
            "mintedOnLog": str(supply.minted_on_log),
            "burntOnLog": str(supply.burnt_on_log),
            "onLog": str(supply.on_log),
            "byFacts": str(supply.by_facts),
            "onChain": None
            if supply.minted_on_chain is None
            else str(supply.minted_on_chain - (supply.burnt_on_chain or 0)),
            "totalSupply": None if supply.total_supply is None else str(supply.total_supply),
        },
    }


_HEADLINE = {
    "CLEAN": "Clean: every claim holds.",
    "DISCREPANCIES": "Discrepancies were found.",
    "INCOMPLETE": "Nothing wrong was found, but not all could be judged.",
}


def as_text(body: dict[str, Any]) -> str:
    facts = body["facts"]
    lines = [
        _HEADLINE[body["verdict"]],
        f"{facts['read']} facts read in {body['seconds']} s ({facts['perSecond']} a second)"
        + (", the log alone: no chain was asked" if body["logOnly"] else ""),
    ]
    lines += [f"Not judged: {problem}" for problem in body["problems"]]
    for chain in body["chains"]:
        lines.append(_chain_line(chain))
    for claim in body["claims"]:
        mark = "ok  " if claim["found"] == 0 else "FAIL"
        told = f": {claim['kind']} {claim['found']} times" if claim["found"] else ""
        lines.append(f"  {mark} {claim['claim']}{told}")
    lines += [f"  note {name}: {count}" for name, count in body["notes"].items()]
    for item in body["findings"]:
        where = f" [{', '.join(item['positions'])}]" if item["positions"] else ""
        if item["discrepancy"]:
            lines.append(f"{item['kind']} {item['subject']}: {item['detail']}{where}")
    return "\n".join(lines)


def _chain_line(chain: dict[str, Any]) -> str:
    supply = chain["supply"] or {}
    return (
        f"chain {chain['chainId']} at block {chain['blockNumber']} {chain['blockHash']}: "
        f"{chain['mints']} mints, {chain['burns']} burns, supply {supply.get('onLog')} on the log, "
        f"{supply.get('byFacts')} by facts, {supply.get('totalSupply')} by the contract, "
        f"{chain['transactionsOfOurWallets']} transactions of ours"
    )


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;
color:#1a1a1a}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem}
.verdict{padding:.6rem 1rem;border-left:.4rem solid;margin:1rem 0;font-weight:600}
.CLEAN{border-color:#1a7f37;background:#e9f6ec}
.DISCREPANCIES{border-color:#b42318;background:#fdecea}
.INCOMPLETE{border-color:#b58900;background:#fdf6e3}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
code{font-size:.86em;overflow-wrap:anywhere}.bad{color:#b42318;font-weight:600}
@media(prefers-color-scheme:dark){body{background:#16181c;color:#e6e6e6}.CLEAN,.DISCREPANCIES,
.INCOMPLETE{background:#22262c}th,td{border-color:#3a3f46}.bad{color:#ff8a80}}
@media print{body{margin:0;max-width:none;font-size:11px;background:#fff;color:#000}
h2{break-after:avoid}tr{break-inside:avoid}}
"""


def as_html(body: dict[str, Any]) -> str:
    """Self-contained: no script, no outside host."""
    facts = body["facts"]
    signers = ", ".join(body["signatures"]["bySigner"]) or "nobody"
    compared = body["signatures"]["comparedWith"]
    key = f"the key is {', '.join(compared)}" if compared else "not compared with a key"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>Audit {escape(body['madeAt'])}</title><style>{_STYLE}</style>",
        f"<h1>Audit of the log and its chains</h1><p>Made {escape(body['madeAt'])}, in "
        f"{body['seconds']} s, from {facts['read']} facts"
        + (", the log alone: no chain was asked." if body["logOnly"] else "."),
        f"<p class='verdict {body['verdict']}'>{_HEADLINE[body['verdict']]}</p>",
        *(f"<p class=bad>Not judged: {escape(problem)}</p>" for problem in body["problems"]),
        *_standing(body),
        f"<p>{body['signatures']['checked']} signatures were recovered: signed by "
        f"{_code(signers)}; {escape(key)}.</p>",
        "<h2>Claims</h2>",
        _table(
            ("claim", "kind", "found"),
            [
                (
                    escape(claim["claim"]),
                    _code(claim["kind"]),
                    f"<span class=bad>{claim['found']}</span>" if claim["found"] else 0,
                )
                for claim in body["claims"]
            ],
        ),
    ]
    for title, wanted in (("Discrepancies", True), ("Notes", False)):
        rows = [
            (
                _code(item["kind"]),
                _known(item["chainId"]),
                _code(item["subject"]),
                escape(item["detail"]),
                _code(", ".join(item["positions"])),
            )
            for item in body["findings"]
            if item["discrepancy"] is wanted
        ]
        head = ("kind", "chain", "of", "what was found", "on the log at")
        parts += [f"<h2>{title}</h2>", _table(head, rows) if rows else "<p>None.</p>"]
    parts.append(
        "<p>Of each kind the first 200 cases are listed; all are counted above.</p></html>"
    )
    return "\n".join(parts)


def _standing(body: dict[str, Any]) -> list[str]:
    """Blocks and their hashes, and what of the supply was told by whom."""
    return [
        "<h2>What it stands on</h2>",
        _table(
            (
                "chain",
                "block",
                "block hash",
                "block time",
                "events on log / chain",
                "our transactions",
            ),
            [
                (
                    chain["chainId"],
                    chain["blockNumber"],
                    _code(chain["blockHash"]),
                    escape(str(chain["blockTime"] or "")),
                    f"{chain['eventsOnLog']} / {_known(chain['eventsOnChain'])}",
                    chain["transactionsOfOurWallets"],
                )
                for chain in body["chains"]
            ],
        ),
        "<h2>Supply, in base units</h2>",
        _table(
            (
                "chain",
                "minted",
                "redeemed",
                "on the log",
                "by facts",
                "on the chain",
                "totalSupply",
            ),
            [(chain["chainId"], *_supply(chain["supply"])) for chain in body["chains"]],
        ),
    ]


def _known(value: Any) -> str:
    return "not asked" if value is None else escape(str(value))


def _code(text: Any) -> str:
    return f"<code>{escape(str(text or ''))}</code>"


def _supply(supply: dict[str, Any] | None) -> tuple[str, ...]:
    names = ("mintedOnLog", "burntOnLog", "onLog", "byFacts", "onChain", "totalSupply")
    return tuple(_known(None if supply is None else supply[name]) for name in names)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
