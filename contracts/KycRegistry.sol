// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @notice Which addresses the issuer has verified: the smallest registry that `isVerified(address)`
/// can be asked of, for tests and as an example. Whoever deploys it keeps it.
contract KycRegistry {
    address public immutable keeper;

    mapping(address account => bool) public isVerified;

    event VerificationChanged(address indexed account, bool verified);

    error NotKeeper(address caller);

    constructor(address keeper_) {
        keeper = keeper_;
    }

    function setVerified(address account, bool verified) external {
        if (msg.sender != keeper) revert NotKeeper(msg.sender);
        isVerified[account] = verified;
        emit VerificationChanged(account, verified);
    }
}
