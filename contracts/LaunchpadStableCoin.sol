// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title StableCoin in the shape of the launchpad's, the `launchpad` contract profile
/// @notice A token that is minted with an EIP-712 approval by any whitelisted signer, relayed by a
/// whitelisted relayer, in the order of the recipient's nonces; and redeemed by burning at once.
/// @dev A reference for tests and development: it has the functions, events and typed data of the
/// deployed contract, and asks the same questions. A request id is processed at most once, for ever.
/// The question "was it done?" comes before all others, so that a relayer learns the true reason of
/// a refusal. No function calls another contract, so there is nothing to re-enter.
contract LaunchpadStableCoin is ERC20, EIP712, Ownable2Step, Pausable {
    bytes32 public constant MINT_APPROVAL_TYPEHASH = keccak256(
        "MintApproval(address to,uint256 amount,uint256 nonce,uint64 expiry,uint256 chainId,bytes32 requestId)"
    );

    /// @notice How many mints this recipient has had: the nonce of its next one.
    mapping(address recipient => uint256) public nonces;
    /// @notice Whether this request was minted.
    mapping(bytes32 requestId => bool) public mintProcessed;
    mapping(address account => bool) public isRelayer;
    mapping(address account => bool) public isSigner;

    event MintWithApproval(address indexed to, uint256 amount, uint256 nonce, bytes32 requestId);
    event RedeemRequested(address account, uint256 amount);
    event RelayerSet(address indexed account, bool allowed);
    event SignerSet(address indexed account, bool allowed);

    error MintAlreadyProcessed(bytes32 requestId);
    error NotRelayer(address account);
    error NotSigner(address recovered);
    error WrongChain(uint256 chainId);
    error WrongNonce(address recipient, uint256 expected, uint256 given);
    error ApprovalExpired(uint64 expiry);
    error ZeroAmount();

    /// @param tokenName also the name of the EIP-712 domain.
    constructor(string memory tokenName, string memory tokenSymbol, address initialOwner)
        ERC20(tokenName, tokenSymbol)
        EIP712(tokenName, "1")
        Ownable(initialOwner)
    {}

    /// @notice Mint `amount` to `to`, whose next nonce must be `nonceVal`.
    function mintWithApproval(
        address to,
        uint256 amount,
        uint256 nonceVal,
        uint64 expiry,
        uint256 chainId,
        bytes32 requestId,
        bytes calldata signature
    ) external whenNotPaused {
        if (mintProcessed[requestId]) revert MintAlreadyProcessed(requestId);
        if (!isRelayer[msg.sender]) revert NotRelayer(msg.sender);
        if (amount == 0) revert ZeroAmount();
        if (chainId != block.chainid) revert WrongChain(chainId);
        if (block.timestamp > expiry) revert ApprovalExpired(expiry);
        if (nonceVal != nonces[to]) revert WrongNonce(to, nonces[to], nonceVal);
        bytes32 structHash =
            keccak256(abi.encode(MINT_APPROVAL_TYPEHASH, to, amount, nonceVal, expiry, chainId, requestId));
        // A malformed or high-s signature recovers to the zero address, which is never a signer.
        (address recovered,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), signature);
        if (!isSigner[recovered]) revert NotSigner(recovered);
        mintProcessed[requestId] = true;
        nonces[to] = nonceVal + 1;
        _mint(to, amount);
        emit MintWithApproval(to, amount, nonceVal, requestId);
    }

    /// @notice Burn `amount` of the caller's tokens: the redemption is this event.
    function requestRedeem(uint256 amount) external whenNotPaused {
        if (amount == 0) revert ZeroAmount();
        _burn(msg.sender, amount);
        emit RedeemRequested(msg.sender, amount);
    }

    function setRelayer(address account, bool allowed) external onlyOwner {
        isRelayer[account] = allowed;
        emit RelayerSet(account, allowed);
    }

    /// @dev The zero address, to which a bad signature recovers, can never be allowed.
    function setSigner(address account, bool allowed) external onlyOwner {
        if (account == address(0)) revert NotSigner(account);
        isSigner[account] = allowed;
        emit SignerSet(account, allowed);
    }

    function pause() external onlyOwner {
        _pause();
    }

    function unpause() external onlyOwner {
        _unpause();
    }
}
