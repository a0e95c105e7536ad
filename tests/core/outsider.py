"""Seals computed by docs/seals.md alone: hashlib and json, nothing of this project."""

import base64
import hashlib
import json

FORMAT = "stablecoin-orchestrator seal 1"


def H(purpose, *parts):
    h = hashlib.sha256()
    for part in (f"{FORMAT}: {purpose}", *parts):
        if part is None:
            h.update(b"\xff" * 8)
            continue
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8")
        h.update(len(raw).to_bytes(8, "big"))
        h.update(raw)
    return h.digest()


def tree(leaves):
    if len(leaves) == 1:
        return leaves[0]
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    return H("node", tree(leaves[:left]), tree(leaves[left:]))


def root(records, partitions):
    """`records` are tuples (topic, partition, offset, milliseconds, key, value, headers); of
    `partitions` (a seal's) only the bounds are taken, and which ends are checkpoints."""
    leaves = []
    for part in partitions:
        topic, number = part["topic"], part["partition"]
        mine = sorted(r for r in records if r[0] == topic and r[1] == number)
        chain, counted, within = H("start", topic, number), 0, []
        marks = [end for end, _ in part["checkpoints"]]
        for _, _, offset, milliseconds, key, value, headers in mine:
            if offset >= part["end"]:
                break
            while marks and marks[0] <= offset:
                within += [marks.pop(0), chain]
            flat = [x for pair in headers for x in pair]
            chain = H(
                "chain", chain, H("record", topic, number, offset, milliseconds, key, value, *flat)
            )
            counted += offset >= part["start"]
        for mark in marks:
            within += [mark, chain]
        leaves.append(
            H("partition", topic, number, part["start"], part["end"], counted, chain, *within)
        )
    return tree(leaves).hex()


def statement(line):
    seal = json.loads(line)
    rows = [
        FORMAT,
        "log: " + seal["log"],
        "day: " + seal["day"],
        "sealed at: " + seal["sealed_at"],
        "previous: " + seal["previous"],
        "root: " + seal["root"],
        "key: " + seal["key"],
    ]
    return ("\n".join(rows) + "\n").encode()


def raw(value):
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return None if value is None else value.encode("utf-8")


def proved(line):
    """The statement that a proof's record hangs on, its signature and its key; None when it does
    not hang together."""
    proof = json.loads(line)
    record, chain, part = proof["record"], proof["chain"], proof["partition"]
    place = [record["topic"], record["partition"], record["offset"], record["timestamp_ms"]]
    flat = [x if n == 0 else raw(x) for pair in record["headers"] for n, x in enumerate(pair)]
    hashes = [H("record", *place, raw(record["key"]), raw(record["value"]), *flat)]
    hashes += [bytes.fromhex(one) for one in chain["after"]]
    value = bytes.fromhex(chain["before"])
    for one in hashes:
        value = H("chain", value, one)
    ends = [*part["checkpoints"], [part["end"], part["chain"]]]
    starts = [part["start"], *(end for end, _ in ends)]
    where = [(s, e) for s, (e, c) in zip(starts, ends, strict=False) if c == value.hex()]
    if not any(s <= record["offset"] < e == chain["end"] for s, e in where):
        return None
    if place[:2] != [part["topic"], part["partition"]]:
        return None
    within = [x if n == 0 else bytes.fromhex(x) for pair in ends[:-1] for n, x in enumerate(pair)]
    bounds = [*place[:2], part["start"], part["end"], part["records"], bytes.fromhex(part["chain"])]
    node = H("partition", *bounds, *within)
    for side, sibling in proof["path"]:
        pair = (bytes.fromhex(sibling), node)
        node = H("node", *(pair if side == "left" else pair[::-1]))
    if node.hex() != proof["statement"]["root"]:
        return None
    text = statement(json.dumps(proof["statement"]))
    return text, base64.b64decode(proof["signature"]), base64.b64decode(proof["key"])
