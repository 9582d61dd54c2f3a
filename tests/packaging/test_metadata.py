"""Version, requirements and lock agree wherever they are written."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

import sdvlm_core
from tests.paths import ROOT

requirements = pytest.importorskip("packaging.requirements", reason="packaging is not installed")

LOCKED_FILES = ("core.txt", "dev.txt", "ros-wheels.txt", "train.txt")


def _pins(path: Path) -> dict[str, set[str]]:
    """Distribution -> the exact versions that a requirements file names, one for each marker."""
    pins: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.match(r"([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", line)
        if found:
            name = re.sub(r"[-_.]+", "-", found[1]).lower()
            pins.setdefault(name, set()).add(found[2])
    return pins


def _setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def test_package_xml_repeats_the_version_of_sdvlm_core() -> None:
    declared = ElementTree.parse(ROOT / "package.xml").getroot().findtext("version")
    assert declared == sdvlm_core.__version__


def test_the_citation_repeats_the_version_of_sdvlm_core() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == sdvlm_core.__version__


def test_setup_cfg_takes_the_version_from_sdvlm_core() -> None:
    assert _setup_cfg()["metadata"]["version"] == "attr: sdvlm_core.__version__"


def test_the_change_log_has_an_entry_for_the_version() -> None:
    headings = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith(sdvlm_core.__version__) for line in headings)


def test_every_declared_dependency_has_a_pin_within_its_range() -> None:
    declared = _setup_cfg()["options"]["install_requires"].split()
    pins = _pins(ROOT / "requirements" / "core.txt")
    parsed = [requirements.Requirement(text) for text in declared]
    names = {re.sub(r"[-_.]+", "-", one.name).lower(): one for one in parsed}
    assert set(names) == set(pins)
    for name, requirement in names.items():
        for version in pins[name]:
            assert requirement.specifier.contains(version), f"{requirement}, pinned {version}"


def test_the_lock_holds_every_pin_but_torch() -> None:
    locked = _pins(ROOT / "requirements" / "lock.txt")
    assert "torch" not in locked
    for file in LOCKED_FILES:
        for name, versions in _pins(ROOT / "requirements" / file).items():
            if name != "torch":
                assert versions <= locked.get(name, set()), f"{name} of {file}: run `make lock`"


def test_every_package_of_the_lock_has_a_hash() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements" / "lock.txt").read_text())
    packages = [block for block in blocks if "==" in block.split("\n", 1)[0]]
    assert len(packages) > 100
    assert [block for block in packages if "--hash=sha256:" not in block] == []


def test_no_requirements_file_names_a_package_index() -> None:
    for path in (ROOT / "requirements").iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|--(?:extra-)?index-url|--find-links", text), path.name


@pytest.mark.parametrize(
    "module", ["sdvlm_core", "sdvlm_core.cli.app", "sdvlm_core.geometry.measure"]
)
def test_importing_does_not_load_torch(module: str) -> None:
    program = (
        f"import sys, {module}; print([n for n in ('torch', 'transformers') if n in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
