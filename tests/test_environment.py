"""What `make setup` does to the environment, without a network."""

import hashlib
import importlib.util
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def environment() -> ModuleType:
    """The script that make runs, as a module."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / ".ci" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in a folder with a space in its name, with one command and an empty environment."""
    root = tmp_path / "my projects" / "crm"
    (root / "serving").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project.scripts]\ncrm = "serving.cli:main"\n')
    (root / "serving" / "cli.py").write_text(
        "import sys\n\ndef main():\n    print(*sys.argv[1:])\n    return 3\n"
    )
    venv.create(root / ".venv", symlinks=True)
    return root


def test_the_command_runs_the_checkout_from_any_folder(
    environment: ModuleType, checkout: Path, tmp_path: Path
) -> None:
    environment.link_checkout(checkout / ".venv", checkout)

    command = [str(checkout / ".venv" / "bin" / "crm"), "train", "all"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert (answer.stdout, answer.returncode) == ("train all\n", 3)


def test_an_edit_shows_in_the_next_run(environment: ModuleType, checkout: Path) -> None:
    environment.link_checkout(checkout / ".venv", checkout)

    (checkout / "serving" / "cli.py").write_text("def main():\n    return 0\n")

    assert subprocess.run([checkout / ".venv" / "bin" / "crm"], check=False).returncode == 0


def test_a_lock_counts_as_installed_until_it_changes(environment: ModuleType, tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("zipp==4.1.2")
    assert not environment.is_installed(tmp_path, lock)

    environment.stamp_of(tmp_path, lock).write_text(environment.fingerprint(lock))
    assert environment.is_installed(tmp_path, lock)

    lock.write_text("zipp==4.1.3")
    assert not environment.is_installed(tmp_path, lock)


def test_an_environment_without_a_working_python_has_no_version(
    environment: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(tmp_path / "removed")

    assert environment.version_of(tmp_path) is None


def test_this_environment_has_the_version_it_runs(environment: ModuleType) -> None:
    assert environment.version_of(Path(sys.prefix)) == sys.version_info[:2]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Collecting aiohttp==3.14.5 (from -r requirements.lock (line 7))", "aiohttp 3.14.5"),
        ("Processing /wheels/zipp-4.1.2-py3-none-any.whl (from -r requirements.lock (line 9))", "zipp 4.1.2"),
        (
            "Requirement already satisfied: rich==15.0.0 in ./lib (from -r a.lock (line 3)) (15.0.0)",
            "rich 15.0.0",
        ),
    ],
)
def test_progress_names_the_package_that_pip_takes_up(environment: ModuleType, line: str, name: str) -> None:
    assert environment.name_of(environment.TAKEN_UP.match(line)["what"]) == name


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of one empty module as a file, and a pip that knows no other place."""
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return path


def test_a_package_is_installed_only_if_its_hash_is_in_the_lock(
    environment: ModuleType, wheel: Path, tmp_path: Path
) -> None:
    home, lock = tmp_path / "venv", tmp_path / "tiny.lock"
    venv.create(home, symlinks=True, with_pip=True)

    lock.write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(environment.SetupRefusedError, match="DO NOT MATCH THE HASHES"):
        environment.install(home, lock)
    assert not environment.is_installed(home, lock)

    lock.write_text(f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    environment.install(home, lock)
    assert environment.is_installed(home, lock)
    assert (environment.site_packages(home) / "tiny.py").is_file()
