// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title Stablecoin, the `orchestrator` contract profile
/// @notice A token that is minted and burnt only with an EIP-712 approval signed by one approver (a
/// key inside a KMS). Whoever relays an approval pays the gas and gains nothing else by it.
/// @dev A request id is processed at most once and a nonce is used at most once, for ever: these two
/// are what make a second mint impossible, whatever the services outside do. The questions "was it
/// done?" come before all others, so that a relayer learns the true reason of a refusal.
/// No function calls another contract, so there is nothing to re-enter.
contract Stablecoin is ERC20, EIP712, Ownable2Step, Pausable {
    struct Redemption {
        address from;
        uint256 amount;
    }

    bytes32 public constant MINT_APPROVAL_TYPEHASH =
        keccak256("MintApproval(string requestId,address to,uint256 amount,uint256 nonce,uint256 deadline)");
    bytes32 public constant REDEEM_FINALIZE_TYPEHASH =
        keccak256("RedeemFinalize(string requestId,address from,uint256 amount,uint256 nonce,uint256 deadline)");

    /// @notice The address whose signature makes an approval valid.
    address public approver;
    /// @notice Whether an approval with this nonce was executed.
    mapping(uint256 nonce => bool) public usedNonce;

    mapping(bytes32 requestKey => bool) private _processed;
    mapping(bytes32 requestKey => Redemption) private _redemptions;
    uint256 private _redemptionCount;

    event Minted(string requestId, address indexed to, uint256 amount);
    event RedeemRequested(string requestId, address indexed from, uint256 amount);
    event Redeemed(string requestId, address indexed from, uint256 amount);
    event ApproverChanged(address indexed previousApprover, address indexed newApprover);

    error RequestAlreadyProcessed(string requestId);
    error NonceAlreadyUsed(uint256 nonce);
    error ApprovalExpired(uint256 deadline);
    error InvalidSigner(address recovered);
    error InvalidApprover(address approver);
    error ZeroAmount();
    error RequestIsRedemption(string requestId);
    error UnknownRedemption(string requestId);
    error RedemptionMismatch(string requestId, address from, uint256 amount);

    constructor(address initialOwner, address initialApprover)
        ERC20("Stablecoin", "STBL")
        EIP712("Stablecoin", "1")
        Ownable(initialOwner)
    {
        _setApprover(initialApprover);
    }

    /// @notice Mint `amount` to `to`. Anyone may call; the approval decides.
    function mintWithApproval(
        string calldata requestId,
        address to,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external whenNotPaused {
        bytes32 requestKey = _unprocessedKey(requestId);
        if (_redemptions[requestKey].from != address(0)) revert RequestIsRedemption(requestId);
        if (amount == 0) revert ZeroAmount();
        bytes32 structHash =
            keccak256(abi.encode(MINT_APPROVAL_TYPEHASH, requestKey, to, amount, nonce, deadline));
        _useApproval(requestKey, nonce, deadline, structHash, signature);
        _mint(to, amount);
        emit Minted(requestId, to, amount);
    }

    /// @notice Lock `amount` of the caller's tokens for redemption.
    /// @return requestId "redeem-<n>", unique in this contract.
    function requestRedeem(uint256 amount) external whenNotPaused returns (string memory requestId) {
        if (amount == 0) revert ZeroAmount();
        bytes32 requestKey;
        do {
            // A mint may already have taken such an id: then the next one is used.
            requestId = string.concat("redeem-", Strings.toString(++_redemptionCount));
            requestKey = keccak256(bytes(requestId));
        } while (_processed[requestKey]);
        _redemptions[requestKey] = Redemption(msg.sender, amount);
        _transfer(msg.sender, address(this), amount);
        emit RedeemRequested(requestId, msg.sender, amount);
    }

    /// @notice Burn what `requestRedeem` locked. Anyone may call; the approval decides.
    function finalizeRedeem(
        string calldata requestId,
        address from,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external whenNotPaused {
        bytes32 requestKey = _unprocessedKey(requestId);
        Redemption storage redemption = _redemptions[requestKey];
        if (redemption.from == address(0)) revert UnknownRedemption(requestId);
        if (redemption.from != from || redemption.amount != amount) {
            revert RedemptionMismatch(requestId, redemption.from, redemption.amount);
        }
        bytes32 structHash =
            keccak256(abi.encode(REDEEM_FINALIZE_TYPEHASH, requestKey, from, amount, nonce, deadline));
        _useApproval(requestKey, nonce, deadline, structHash, signature);
        _burn(address(this), amount);
        emit Redeemed(requestId, from, amount);
    }

    /// @notice Whether this request was minted, or its redemption finalized.
    function isProcessed(string calldata requestId) external view returns (bool) {
        return _processed[keccak256(bytes(requestId))];
    }

    /// @notice What was locked under this id; zeros when nothing was.
    function redemptionOf(string calldata requestId) external view returns (address from, uint256 amount) {
        Redemption storage redemption = _redemptions[keccak256(bytes(requestId))];
        return (redemption.from, redemption.amount);
    }

    function setApprover(address newApprover) external onlyOwner {
        _setApprover(newApprover);
    }

    function pause() external onlyOwner {
        _pause();
    }

    function unpause() external onlyOwner {
        _unpause();
    }

    function _setApprover(address newApprover) private {
        if (newApprover == address(0)) revert InvalidApprover(newApprover);
        emit ApproverChanged(approver, newApprover);
        approver = newApprover;
    }

    /// @dev The key of a request that was not processed yet.
    function _unprocessedKey(string calldata requestId) private view returns (bytes32 requestKey) {
        requestKey = keccak256(bytes(requestId));
        if (_processed[requestKey]) revert RequestAlreadyProcessed(requestId);
    }

    /// @dev Check an approval and mark its request and nonce as used, all or nothing.
    function _useApproval(
        bytes32 requestKey,
        uint256 nonce,
        uint256 deadline,
        bytes32 structHash,
        bytes calldata signature
    ) private {
        if (usedNonce[nonce]) revert NonceAlreadyUsed(nonce);
        if (block.timestamp > deadline) revert ApprovalExpired(deadline);
        // A malformed or high-s signature recovers to the zero address, which is never the approver.
        (address recovered,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), signature);
        if (recovered != approver) revert InvalidSigner(recovered);
        _processed[requestKey] = true;
        usedNonce[nonce] = true;
    }
}
