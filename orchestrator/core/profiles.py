"""Which contract profiles there are, by the names that the configuration uses."""

from __future__ import annotations

from orchestrator.core.contract import Profile
from orchestrator.core.launchpad_profile import LaunchpadProfile
from orchestrator.core.orchestrator_profile import ORCHESTRATOR, OrchestratorProfile

PROFILE_NAMES = (OrchestratorProfile.name, LaunchpadProfile.name)


def profile_of(name: str, token_name: str) -> Profile:
    """The profile of that name. `token_name` is what `launchpad` alone needs.

    Raises ValueError with what a person can do.
    """
    if name == OrchestratorProfile.name:
        return ORCHESTRATOR
    if name != LaunchpadProfile.name:
        known = " and ".join(PROFILE_NAMES)
        raise ValueError(f"what is given is no contract profile; there are {known}")
    if not token_name:
        raise ValueError(
            "launchpad needs CONTRACT_TOKEN_NAME_<id>, what the contract's name() says"
        )
    return LaunchpadProfile(token_name)
