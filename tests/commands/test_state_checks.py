"""What `orchestrator doctor` says of STATE_DIR, on real folders."""

from __future__ import annotations

import os

from orchestrator.commands import state_checks
from orchestrator.commands.checks import State
from orchestrator.commands.state_checks import state_folder


def test_a_folder_that_can_be_written_is_well_and_nothing_is_left_in_it(tmp_path):
    found = state_folder(tmp_path, "orchestrator")
    assert found.state is State.WELL and "can be written" in found.detail
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_not_made(tmp_path):
    found = state_folder(tmp_path / "a" / "b", "orchestrator")
    assert found.state is State.WELL and "is made when" in found.detail
    assert not list(tmp_path.iterdir())


def test_a_file_in_its_place_is_broken(tmp_path):
    (tmp_path / "f").write_text("")
    for place in (tmp_path / "f", tmp_path / "f" / "below"):
        found = state_folder(place, "orchestrator")
        assert found.state is State.BROKEN and found.remedy


def test_a_role_s_folder_that_others_may_write_to_is_broken(tmp_path):
    (tmp_path / "orchestrator-sign").mkdir()
    (tmp_path / "orchestrator-sign").chmod(0o770)
    found = state_folder(tmp_path, "orchestrator")
    assert found.state is State.BROKEN and "written by others" in found.detail
    assert state_folder(tmp_path, "another").state is State.WELL


def test_little_room_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(state_checks, "LITTLE_BYTES", 2**63)
    found = state_folder(tmp_path, "orchestrator")
    assert found.state is State.WARNING and "make room" in found.remedy


def test_another_user_s_folder_is_broken(tmp_path, monkeypatch):
    (tmp_path / "orchestrator-decide").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    found = state_folder(tmp_path, "orchestrator")
    assert found.state is State.BROKEN and "belongs to another user" in found.detail
