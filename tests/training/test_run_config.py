"""A resumed run must have the settings of its folder."""

from __future__ import annotations

import pytest

from training.run_config import check_unchanged


def test_a_folder_of_other_settings_is_refused_with_both_values(tmp_path):
    check_unchanged(tmp_path / "run", {"steps": 10, "rate": 0.5})
    check_unchanged(tmp_path / "run", {"steps": 10, "rate": 0.5})
    with pytest.raises(ValueError, match="steps was 10 and is 20"):
        check_unchanged(tmp_path / "run", {"steps": 20, "rate": 0.5})
