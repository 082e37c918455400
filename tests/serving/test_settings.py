"""Settings are read once, and a bad one is refused by name."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from crm_core.errors import SettingsError
from serving.home import Home, session_secret
from serving.settings import Settings, load_settings, variable_of


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CRM_PORT", "eighty"),
        ("CRM_PORT", "70000"),
        ("CRM_HTTPS", "perhaps"),
        ("CRM_TIME_ZONE", "Moon/Sea_of_Tranquility"),
        ("CRM_LANGUAGE", "tlh"),
        ("CRM_LOG_LEVEL", "loud"),
        ("CRM_SESSION_HOURS", "0"),
        ("CRM_DATABASE_URL", ""),
        ("MLFLOW_TRACKING_URI", ""),
    ],
)
def test_a_bad_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable):
        load_settings()


def test_a_setting_that_does_not_exist_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_PROT", "8000")
    with pytest.raises(SettingsError, match="CRM_PROT"):
        load_settings()


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRM_HOME", str(tmp_path))
    monkeypatch.setenv("CRM_PORT", "9000")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example")
    settings = load_settings()
    assert (settings.port, settings.home_folder.folder) == (9000, tmp_path)
    assert settings.home_folder.tracking_uri == "http://tracking.example"
    assert settings.home_folder.database_url == f"sqlite:///{tmp_path / 'crm.db'}"


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRM_HOME", "/somewhere/else")
    monkeypatch.setenv("CRM_PORT", "9000")
    assert load_settings(home=tmp_path, port=None).port == 9000
    assert load_settings(home=tmp_path, port=0).port == 0
    assert load_settings(home=tmp_path).home == tmp_path


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    assert variable_of("mlflow_tracking_uri") == "MLFLOW_TRACKING_URI"


def test_the_secret_is_made_once_and_is_for_its_owner_only(tmp_path: Path) -> None:
    home = Home.at(tmp_path)
    first = session_secret(home)
    assert session_secret(home) == first
    assert len(first) >= 48
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o600
    assert json.loads(home.secrets.read_text()) == {"session": first}
    assert list(tmp_path.iterdir()) == [home.secrets]
