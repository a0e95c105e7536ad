// Writes eip712.json and transactions.json into the folder given as argument, with ethers: an
// implementation that shares no line with ours. No clock and no random: the same bytes each time.
"use strict";

const { writeFileSync } = require("node:fs");
const { join } = require("node:path");
const { createRequire } = require("node:module");

const [modules, target] = process.argv.slice(2);
const ethers = createRequire(join(modules, "ethers", "package.json"))("ethers");
const { id, Interface, SigningKey, Transaction, TypedDataEncoder, Wallet, getAddress } = ethers;

const UINT256_MAX = 2n ** 256n - 1n;
const SIGNER_KEY = id("stablecoin-orchestrator test vector: approver");

const contractInterface = new Interface([
  "function mintWithApproval(string requestId, address to, uint256 amount, uint256 nonce, uint256 deadline, bytes signature)",
  "function finalizeRedeem(string requestId, address from, uint256 amount, uint256 nonce, uint256 deadline, bytes signature)",
  "function isProcessed(string requestId) view returns (bool)",
  "event Minted(string requestId, address indexed to, uint256 amount)",
  "event Redeemed(string requestId, address indexed from, uint256 amount)",
  "event RedeemRequested(string requestId, address indexed from, uint256 amount)",
]);

const launchpadInterface = new Interface([
  "function mintWithApproval(address to, uint256 amount, uint256 nonceVal, uint64 expiry, uint256 chainId, bytes32 requestId, bytes signature)",
  "function mintProcessed(bytes32 requestId) view returns (bool)",
  "function nonces(address recipient) view returns (uint256)",
  "event MintWithApproval(address indexed to, uint256 amount, uint256 nonce, bytes32 requestId)",
  "event RedeemRequested(address account, uint256 amount)",
]);
const TOKEN_NAMES = ["Pad Dollar", "Stablecoin", "Überdollar ₮", "x".repeat(40)];
const EXPIRIES = [0n, 1700000000n, 2n ** 32n, 2n ** 63n - 1n, 2n ** 64n - 1n];

const ROLES = {
  MINT: { primary: "MintApproval", field: "to", method: "mintWithApproval", event: "Minted" },
  REDEEM: { primary: "RedeemFinalize", field: "from", method: "finalizeRedeem", event: "Redeemed" },
};

const addressOf = (name) => getAddress("0x" + id(name).slice(-40));

const REQUEST_IDS = [
  "mint-1", "redeem-1", "a", "0x", " ", "x".repeat(31), "x".repeat(32), "x".repeat(33),
  "y".repeat(400), "Überweisung-ß", "請求-42", "🪙🪙🪙", "e\u0301 is not \u00e9", "a\"b\\c'd",
  "line\nbreak\ttab", "redeem:5920:redeem-7", "../../etc", "\u0000nul", "{\"json\":true}",
  "00000000-0000-4000-8000-000000000000",
];
const AMOUNTS = [1n, 10n ** 18n, 2n ** 53n + 1n, 2n ** 64n, 2n ** 128n - 1n, UINT256_MAX];
const NONCES = [0n, 1n, BigInt(id("mint-1")), UINT256_MAX];
const DEADLINES = [0n, 1700000000n, 2n ** 32n, 2n ** 63n - 1n, UINT256_MAX];
const CHAINS = [1n, 5920n, 5924n, 31337n, 2n ** 63n - 1n];
const ACCOUNTS = [
  addressOf("holder"), "0x" + "0".repeat(39) + "1", "0x" + "f".repeat(40), addressOf("other holder"),
];
const CONTRACTS = [addressOf("contract"), addressOf("other contract"), addressOf("third contract")];

const text = (value) => value.toString(10);

function eip712() {
  const vectors = [];
  for (const type of ["MINT", "REDEEM"]) {
    REQUEST_IDS.forEach((requestId, i) => vectors.push(approvalVector(type, requestId, i)));
  }
  return vectors;
}

function approvalVector(type, requestId, i) {
  const role = ROLES[type];
  const shift = type === "MINT" ? 0 : 1;
  const pick = (list, step) => list[(i * step + shift) % list.length];
  const approval = {
    type,
    chain_id: pick(CHAINS, 1),
    contract: getAddress(pick(CONTRACTS, 1)),
    request_id: requestId,
    account: getAddress(pick(ACCOUNTS, 1)),
    amount: pick(AMOUNTS, 1),
    nonce: pick(NONCES, 3),
    deadline: pick(DEADLINES, 2),
  };
  const domain = {
    name: "Stablecoin", version: "1", chainId: approval.chain_id, verifyingContract: approval.contract,
  };
  const types = {
    [role.primary]: [
      { name: "requestId", type: "string" },
      { name: role.field, type: "address" },
      { name: "amount", type: "uint256" },
      { name: "nonce", type: "uint256" },
      { name: "deadline", type: "uint256" },
    ],
  };
  const message = {
    requestId,
    [role.field]: approval.account,
    amount: approval.amount,
    nonce: approval.nonce,
    deadline: approval.deadline,
  };
  const digest = TypedDataEncoder.hash(domain, types, message);
  const signature = new SigningKey(SIGNER_KEY).sign(digest).serialized;
  const calldata = contractInterface.encodeFunctionData(role.method, [
    requestId, approval.account, approval.amount, approval.nonce, approval.deadline, signature,
  ]);
  const events = [role.event, ...(type === "REDEEM" ? ["RedeemRequested"] : [])].map((event) => ({
    event,
    ...contractInterface.encodeEventLog(event, [requestId, approval.account, approval.amount]),
  }));
  return {
    ...approval,
    chain_id: text(approval.chain_id),
    amount: text(approval.amount),
    nonce: text(approval.nonce),
    deadline: text(approval.deadline),
    encoded_type: TypedDataEncoder.from(types).encodeType(role.primary),
    domain_separator: TypedDataEncoder.hashDomain(domain),
    struct_hash: TypedDataEncoder.from(types).hash(message),
    digest,
    signature,
    calldata,
    is_processed_calldata: contractInterface.encodeFunctionData("isProcessed", [requestId]),
    events,
  };
}

function launchpad() {
  const words = REQUEST_IDS.map((requestId) => [requestId, id(requestId)]);
  words.push([id("a word already"), id("a word already")]);
  return words.map(([requestId, word], i) => {
    const pick = (list, step) => list[(i * step + 2) % list.length];
    const mint = {
      token_name: pick(TOKEN_NAMES, 1),
      chain_id: pick(CHAINS, 1),
      contract: getAddress(pick(CONTRACTS, 1)),
      request_id: requestId,
      account: getAddress(pick(ACCOUNTS, 1)),
      amount: pick(AMOUNTS, 1),
      nonce: pick(NONCES, 3),
      deadline: pick(EXPIRIES, 2),
    };
    const domain = {
      name: mint.token_name, version: "1", chainId: mint.chain_id, verifyingContract: mint.contract,
    };
    const types = {
      MintApproval: [
        { name: "to", type: "address" },
        { name: "amount", type: "uint256" },
        { name: "nonce", type: "uint256" },
        { name: "expiry", type: "uint64" },
        { name: "chainId", type: "uint256" },
        { name: "requestId", type: "bytes32" },
      ],
    };
    const message = {
      to: mint.account, amount: mint.amount, nonce: mint.nonce, expiry: mint.deadline,
      chainId: mint.chain_id, requestId: word,
    };
    const digest = TypedDataEncoder.hash(domain, types, message);
    const signature = new SigningKey(SIGNER_KEY).sign(digest).serialized;
    return {
      ...mint,
      chain_id: text(mint.chain_id),
      amount: text(mint.amount),
      nonce: text(mint.nonce),
      deadline: text(mint.deadline),
      contract_id: word,
      encoded_type: TypedDataEncoder.from(types).encodeType("MintApproval"),
      digest,
      signature,
      calldata: launchpadInterface.encodeFunctionData("mintWithApproval", [
        mint.account, mint.amount, mint.nonce, mint.deadline, mint.chain_id, word, signature,
      ]),
      is_processed_calldata: launchpadInterface.encodeFunctionData("mintProcessed", [word]),
      nonces_calldata: launchpadInterface.encodeFunctionData("nonces", [mint.account]),
      minted: launchpadInterface.encodeEventLog("MintWithApproval", [
        mint.account, mint.amount, mint.nonce, word,
      ]),
      redeemed: launchpadInterface.encodeEventLog("RedeemRequested", [mint.account, mint.amount]),
    };
  });
}

async function transactions() {
  const keys = [id("wallet one"), id("wallet two"), "0x" + "0".repeat(63) + "1"];
  const mint = eip712()[0];
  const data = [mint.calldata, "0x", "0x00", "0x" + "ab".repeat(1000)];
  const vectors = [];
  for (const [i, privateKey] of keys.entries()) {
    for (const [j, input] of data.entries()) {
      const wallet = new Wallet(privateKey);
      const n = i * data.length + j;
      const fields = {
        type: 2,
        chainId: CHAINS[n % CHAINS.length],
        nonce: [0, 1, 127, 128, 255, 65536, 2 ** 31][n % 7],
        to: CONTRACTS[n % CONTRACTS.length],
        data: input,
        value: 0n,
        gasLimit: [21000n, 250000n, 30000000n][n % 3],
        maxFeePerGas: [7n, 2n * 10n ** 9n, 500n * 10n ** 9n, 2n ** 64n][n % 4],
        maxPriorityFeePerGas: [0n, 10n ** 9n, 10n ** 9n, 2n ** 64n][n % 4],
      };
      const raw = await wallet.signTransaction(fields);
      vectors.push({
        private_key: privateKey,
        sender: wallet.address,
        chain_id: text(fields.chainId),
        nonce: fields.nonce,
        to: fields.to,
        data: fields.data,
        gas_limit: text(fields.gasLimit),
        max_fee_per_gas_wei: text(fields.maxFeePerGas),
        max_priority_fee_per_gas_wei: text(fields.maxPriorityFeePerGas),
        raw,
        tx_hash: Transaction.from(raw).hash,
      });
    }
  }
  return vectors;
}

async function main() {
  const made_by = `ethers ${ethers.version}`;
  const write = (name, content) =>
    writeFileSync(join(target, name), JSON.stringify({ made_by, ...content }, null, 1) + "\n");
  write("eip712.json", {
    signer: new Wallet(SIGNER_KEY).address,
    private_key: SIGNER_KEY,
    vectors: eip712(),
  });
  write("launchpad.json", {
    signer: new Wallet(SIGNER_KEY).address,
    vectors: launchpad(),
  });
  write("transactions.json", { vectors: await transactions() });
}

main();
