"""What a mint certificate holds; docs/certificates.md says what each part proves.

Written as JSON in camelCase; amounts are decimal strings, bytes lower-case 0x hex. Nothing may
stand in a certificate that is not checked: unknown fields are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from schemas.base import Address, ChainId, Count, Hash

CERTIFICATE_FORMAT = "stablecoin-orchestrator-mint-certificate"
CERTIFICATE_VERSION = 1
LARGEST_CERTIFICATE_BYTES = 4 * 1024 * 1024

Bytes = Annotated[str, Field(pattern=r"^0x(?:[0-9a-f]{2})*$")]
Proof = Annotated[list[Bytes], Field(min_length=1, max_length=64)]


class Part(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=to_camel,
        serialize_by_alias=True,
    )


class KuroPart(Part):
    """The fact that allowed the mint: where it stands on the log, and its value there. `sha256` is
    that of the position, a line feed, and the value as canonical JSON (keys sorted, no spaces)."""

    position: Annotated[str, Field(pattern=r"^kuro\.events/(0|[1-9]\d*)/(0|[1-9]\d*)$")]
    value: dict[str, Any]
    sha256: Hash


class ApprovalPart(Part):
    """What was approved and by whom. `typed_data` is the EIP-712 message as wallets take it,
    numbers as decimal strings; `signature` is r, s, v."""

    profile: Literal["orchestrator", "launchpad"]
    typed_data: dict[str, Any]
    digest: Hash
    signature: Annotated[str, Field(pattern=r"^0x[0-9a-f]{130}$")]
    signer: Address


class TransactionPart(Part):
    """The transaction as it was sent (EIP-2718), its place in the block, and the nodes of the
    transactions' trie from the root to it."""

    hash: Hash
    index: Count
    raw: Bytes
    proof: Proof


class ReceiptPart(Part):
    """The receipt as it stands in the receipts' trie (EIP-2718), which of its logs is the mint's
    event, and the nodes from the root to it."""

    raw: Bytes
    log: Count
    proof: Proof


class BlockPart(Part):
    """`header` is RLP; its keccak256 is `hash`."""

    chain_id: ChainId
    number: Count
    hash: Hash
    header: Bytes


class MintCertificate(Part):
    """A mint from Kuro's word to the chain's: whoever trusts the block's hash needs nobody else."""

    format: Literal["stablecoin-orchestrator-mint-certificate"]
    version: Literal[1]
    request_key: Annotated[str, Field(min_length=1, max_length=200)]
    kuro: KuroPart
    approval: ApprovalPart
    transaction: TransactionPart
    receipt: ReceiptPart
    block: BlockPart


class UnreadableCertificate(ValueError):
    """It has not the shape of a certificate; names the field."""


def read_certificate(body: object) -> MintCertificate:
    """From JSON that was read. Raises UnreadableCertificate."""
    try:
        return MintCertificate.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise UnreadableCertificate(f"{place}: {first['msg']}") from None
