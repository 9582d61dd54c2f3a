"""The message definitions in the package equal those in msg/."""

from __future__ import annotations

import json

from sdvlm_core.replay.answer_bag import typestore
from tests.paths import ROOT


def test_the_definitions_equal_the_interfaces_of_the_ros_package() -> None:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    from sdvlm_core.camera.definitions import DEFINITIONS

    for name, text in DEFINITIONS.items():
        published = (ROOT / "msg" / f"{name.rsplit('/')[-1]}.msg").read_text(encoding="utf-8")
        assert get_types_from_msg(published, name) == get_types_from_msg(text, name)
        own = get_typestore(Stores.ROS2_JAZZY)
        own.register(get_types_from_msg(text, name))
    described = ROOT / ".venv" / "share" / "sdvlm" / "msg" / "SpatialAnswer.json"
    if described.exists():  # with the hashes from rosidl
        hashes = {
            entry["type_name"]: entry["hash_string"]
            for entry in json.loads(described.read_text())["type_hashes"]
        }
        for name in DEFINITIONS:
            assert typestore().hash_rihs01(name) == hashes[name]
