"""The settings, read once from the environment; nothing else in the program reads it."""

from __future__ import annotations

import ipaddress
import os
import re
import zoneinfo
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from crm_core.errors import SettingsError
from serving.home import Home
from serving.networks import read_networks

PREFIX = "CRM_"
_READ_BY_TESTS = {"CRM_REAL_DATA"}
_MAIL_ADDRESS = re.compile(r"[\x21-\x7e]+@[A-Za-z0-9.-]+")
_HOUR = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_CHECKOUT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Everything that can be set; a description of each is its documentation."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, populate_by_name=True, extra="forbid")

    home: Path = Field(
        default=_CHECKOUT / "home",
        description="Folder below which everything is kept; `--home` wins over it.",
    )
    database_url: str | None = Field(
        default=None, description="Where the records are; default `crm.db` in the home folder.", min_length=1
    )
    mlflow_tracking_uri: str | None = Field(
        default=None,
        validation_alias=AliasChoices("MLFLOW_TRACKING_URI"),
        description="Where training runs are tracked; default `mlflow.db` in the home folder.",
        min_length=1,
    )
    host: str = Field(default="127.0.0.1", description="Address that `crm serve` listens on.", min_length=1)
    port: int = Field(
        default=8000, description="Port that `crm serve` listens on; 0 takes a free one.", ge=0, le=65535
    )
    threads: int = Field(default=8, description="Requests that `crm serve` answers at once.", ge=1, le=64)
    https: bool = Field(
        default=False,
        description="People reach the service by https: cookies are then sent over https only.",
    )
    rescoring: bool = Field(
        default=True,
        description="Follow the change log and re-score inside `crm serve`; without, `crm worker` does it.",
    )
    sweep_at: str = Field(
        default="02:00",
        description="Hour and minute at which every open record is scored once a day, in `CRM_TIME_ZONE`.",
    )
    shadow_records: int = Field(
        default=1000,
        description="Records a day and task that a challenger scores beside the champion, unseen; 0: none.",
        ge=0,
    )
    file_mib: int = Field(
        default=20,
        description="Size up to which people put files on records, in MiB; 0: they put none.",
        ge=0,
        le=1024,
    )
    metrics_open: bool = Field(
        default=False,
        description="Whoever reaches the service may read `/metrics`, without a key.",
    )
    worker_metrics: str | None = Field(
        default=None,
        description=(
            "Where `crm worker` gives its metrics, such as `127.0.0.1:9464`, to whoever reaches it; "
            "without it, nowhere."
        ),
        pattern=r"^[^:\s]+:[0-9]{1,5}$",
    )
    job_threads: int = Field(
        default=4,
        description="Mails, webhooks and other jobs that `crm serve` does at once; 0: none, others do them.",
        ge=0,
        le=64,
    )
    smtp_host: str | None = Field(
        default=None,
        description="Mail server that mails are sent through; without one, mail is off.",
        min_length=1,
    )
    smtp_port: int | None = Field(
        default=None,
        description="Port of the mail server; default 25, 587 or 465 by `CRM_SMTP_TLS`.",
        ge=1,
        le=65535,
    )
    smtp_user: str | None = Field(
        default=None, description="Name to log in with at the mail server.", min_length=1
    )
    smtp_password: SecretStr | None = Field(
        default=None, description="Password to log in with at the mail server."
    )
    smtp_password_file: Path | None = Field(
        default=None, description="File that holds this password, in place of `CRM_SMTP_PASSWORD`."
    )
    smtp_tls: Literal["none", "starttls", "tls"] = Field(
        default="starttls",
        validate_default=True,
        description="How the way to the mail server is encrypted; `none` only without a password.",
    )
    mail_from: str | None = Field(
        default=None, validate_default=True, description="Address that mails come from; needed to send any."
    )
    mail_drop: str | None = Field(
        default=None,
        validate_default=True,
        description="Address of the mailbox that `CRM_IMAP_HOST` reads: replies go there, and copies (BCC) "
        "of mails that people send from elsewhere; default `CRM_MAIL_FROM` where a mailbox is read.",
    )
    service_mail: str | None = Field(
        default=None,
        validate_default=True,
        description="Address of the service desk, delivered to the mailbox that is read: a mail to it from a "
        "customer's contact, which answers nothing, opens a ticket.",
    )
    service_queue: str | None = Field(
        default=None, description="Key of the queue that these tickets go to.", min_length=1
    )
    imap_host: str | None = Field(
        default=None,
        description="Mail server whose mailbox is read; without one, no mail comes in by itself.",
        min_length=1,
    )
    imap_port: int | None = Field(
        default=None, description="Its port; default 993 with `CRM_IMAP_TLS=tls`, else 143.", ge=1, le=65535
    )
    imap_user: str | None = Field(default=None, description="Name to log in with there.", min_length=1)
    imap_password: SecretStr | None = Field(default=None, description="Password to log in with there.")
    imap_password_file: Path | None = Field(
        default=None, description="File that holds this password, in place of `CRM_IMAP_PASSWORD`."
    )
    imap_tls: Literal["none", "starttls", "tls"] = Field(
        default="tls",
        validate_default=True,
        description="How the way to that server is encrypted; `none` only on this machine.",
    )
    imap_folder: str = Field(default="INBOX", description="Folder that is read there.", min_length=1)
    imap_seconds: float = Field(
        default=30.0, description="Seconds between two looks into that folder.", gt=0, le=86_400
    )
    alerting: bool = Field(default=True, description="Raise alerts inside `crm serve` and `crm worker`.")
    automation: bool = Field(
        default=True, description="Have the rules of automation act inside `crm serve` and `crm worker`."
    )
    automation_days: int = Field(
        default=365, description="Days for which it is kept what rules of automation did.", ge=1
    )
    alert_churn_level: float = Field(
        default=0.3, description="Probability of leaving from which a customer raises an alert.", gt=0, le=1
    )
    alert_churn_money: Decimal | None = Field(
        default=None,
        description="Money at risk, in any currency, from which a customer raises an alert even below that.",
        gt=0,
    )
    alert_least_money: Decimal = Field(
        default=Decimal(0),
        description="Customers with less money at risk than this, as far as it is known, raise no alert.",
        ge=0,
    )
    alert_churn_jump: float = Field(
        default=0.15, description="Rise of the probability of leaving that raises an alert.", gt=0, le=1
    )
    alert_contract_days: int = Field(
        default=60, description="Days before the end of a contract from which its renewal is watched.", ge=1
    )
    alert_renewal_below: float = Field(
        default=0.8,
        description="Probability of renewal below which a contract's end raises an alert.",
        gt=0,
        le=1,
    )
    alert_deal_fall: float = Field(
        default=0.15, description="Fall of a deal's probability that raises an alert.", gt=0, le=1
    )
    alert_deal_grades: int = Field(
        default=2, description="Grades that a deal must lose to raise an alert.", ge=1, le=3
    )
    alert_days: int = Field(
        default=7,
        description="Days back to what was said then, that rises and falls are measured from.",
        ge=1,
        le=90,
    )
    webhook_allow_http: bool = Field(
        default=False, description="Send webhooks and other requests to `http://` addresses, too."
    )
    webhook_allow_networks: str = Field(
        default="",
        description="Own networks that webhooks and other requests may reach, as `10.0.0.0/8,fd00::/8`.",
    )
    session_hours: int = Field(
        default=12, description="Hours after which a person logs in again.", ge=1, le=720
    )
    api_rate: int = Field(
        default=60_000, description="Requests a minute that one API key may make; 0: any number.", ge=0
    )
    anonymous_rate: int = Field(
        default=600,
        description="Requests a minute to the API from one address without a valid key; 0: any number.",
        ge=0,
    )
    login_rate: int = Field(
        default=60, description="Attempts a minute to log in from one address; 0: any number.", ge=0
    )
    form_rate: int = Field(
        default=30, description="Web forms a minute that one address may send; 0: any number.", ge=0
    )
    oidc_issuer: str | None = Field(
        default=None,
        description="Issuer of the identity provider (OpenID Connect) that people may log in by; or none.",
    )
    oidc_client_id: str | None = Field(
        default=None,
        description="How the identity provider calls this installation.",
        min_length=1,
        validate_default=True,
    )
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="What this installation shows to the identity provider."
    )
    oidc_client_secret_file: Path | None = Field(
        default=None, description="File that holds that secret, instead of naming it."
    )
    oidc_create_role: Literal["rep", "manager", "analyst"] | None = Field(
        default=None,
        description="Role of users made when the provider vouches for somebody unknown; none: refused.",
    )
    password_login: bool = Field(
        default=True, description="People may log in with a password; false needs an identity provider."
    )
    public_url: str | None = Field(
        default=None,
        description="Address by which people reach this installation, for links from elsewhere back to it; "
        "default: the one that a request names.",
    )
    operations_days: int = Field(
        default=365,
        description="Days for which it is kept who logged in and who read what about people.",
        ge=1,
    )
    trusted_proxy: str | None = Field(
        default=None,
        description="Address of the proxy in front, whose `X-Forwarded-For`, `-Proto` and `-Host` are "
        "believed; nobody's by default.",
    )
    trusted_proxy_count: int = Field(
        default=1, description="How many proxies stand in a row in front.", ge=1, le=10
    )
    language: Literal["en", "zh"] = Field(
        default="en", description="Language of the pages where neither the person nor the browser names one."
    )
    time_zone: str = Field(
        default="UTC",
        description="Time zone of the pages for people who have set none, and of `CRM_SWEEP_AT`.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least important message that goes to the log."
    )

    @field_validator("sweep_at")
    @classmethod
    def _known_hour(cls, value: str) -> str:
        if not _HOUR.fullmatch(value):
            raise ValueError("expected an hour and a minute like 02:00")
        return value

    @field_validator("oidc_issuer", "public_url")
    @classmethod
    def _safe_address(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "https://x")
        local = parts.hostname in {"127.0.0.1", "localhost", "::1"}
        if parts.query or parts.fragment or not parts.hostname or parts.scheme not in {"https", "http"}:
            raise ValueError("expected an address like https://id.example.com")
        if parts.scheme == "http" and not local and value is not None:
            raise ValueError("expected https, or http on this machine")
        return value

    @field_validator("oidc_client_id")
    @classmethod
    def _whole_provider(cls, value: str | None, info: ValidationInfo) -> str | None:
        if (value is None) != (info.data.get("oidc_issuer") is None):
            raise ValueError("expected CRM_OIDC_ISSUER and CRM_OIDC_CLIENT_ID together")
        return value

    @field_validator("oidc_client_secret_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("expected a file that can be read")
        return value

    @field_validator("password_login")
    @classmethod
    def _some_way_in(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001  as pydantic calls it
        if not value and info.data.get("oidc_issuer") is None:
            raise ValueError("without CRM_OIDC_ISSUER nobody could log in")
        return value

    @property
    def oidc_secret(self) -> str | None:
        """The secret of the identity provider, wherever it is kept."""
        if self.oidc_client_secret_file is not None:
            return self.oidc_client_secret_file.read_text().strip()
        return None if self.oidc_client_secret is None else self.oidc_client_secret.get_secret_value()

    @field_validator("trusted_proxy")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None:
            ipaddress.ip_address(value)
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in _time_zones():
            raise ValueError("no such time zone; expected a name like Asia/Shanghai")
        return value

    @field_validator("webhook_allow_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        try:
            read_networks(value)
        except ValueError as error:
            raise ValueError(f"expected networks like 10.0.0.0/8, separated by commas: {error}") from error
        return value

    @field_validator("smtp_tls")
    @classmethod
    def _no_password_in_the_clear(cls, value: str, info: ValidationInfo) -> str:
        told = [info.data.get(name) is not None for name in ("smtp_password", "smtp_password_file")]
        if all(told):
            raise ValueError("CRM_SMTP_PASSWORD and CRM_SMTP_PASSWORD_FILE are both set; expected one")
        if (info.data.get("smtp_user") is not None) != any(told):
            raise ValueError("CRM_SMTP_USER and a password go together")
        if value == "none" and any(told):
            raise ValueError("a password would travel in the clear; expected starttls or tls")
        return value

    @field_validator("imap_tls")
    @classmethod
    def _whole_mailbox(cls, value: str, info: ValidationInfo) -> str:
        host = info.data.get("imap_host")
        told = [info.data.get(name) is not None for name in ("imap_password", "imap_password_file")]
        if all(told):
            raise ValueError("CRM_IMAP_PASSWORD and CRM_IMAP_PASSWORD_FILE are both set; expected one")
        if host is not None and (info.data.get("imap_user") is None or not any(told)):
            raise ValueError("CRM_IMAP_HOST is set; expected CRM_IMAP_USER and a password beside it")
        if value == "none" and host not in {None, "127.0.0.1", "localhost", "::1"}:
            raise ValueError("a password would travel in the clear; expected starttls or tls")
        return value

    @field_validator("mail_drop", "service_mail")
    @classmethod
    def _drop(cls, value: str | None) -> str | None:
        if value is not None and not _MAIL_ADDRESS.fullmatch(value):
            raise ValueError("expected a mail address like crm@example.com")
        return value

    @property
    def drop_address(self) -> str | None:
        """The address of the mailbox that is read here, if one is."""
        return self.mail_drop or (self.mail_from if self.imap_host is not None else None)

    @field_validator("mail_from")
    @classmethod
    def _address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("smtp_host") is not None:
            raise ValueError("CRM_SMTP_HOST is set; expected the address that mails come from")
        if value is not None and not _MAIL_ADDRESS.fullmatch(value):
            raise ValueError("expected a mail address like crm@example.com")
        return value

    @property
    def home_folder(self) -> Home:
        """Where everything of this installation is."""
        return Home.at(self.home, database_url=self.database_url, tracking_uri=self.mlflow_tracking_uri)


def load_settings(**given: Any) -> Settings:
    """Return the settings; what is given (and not None) wins over the environment.

    Raises SettingsError, naming the variable, for a bad value and for a CRM_ variable that does not exist.
    """
    _refuse_unknown(os.environ.keys())
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingsError(
            f"{variable_of(str(first['loc'][0]))}: {first['msg']}, got {first['input']!r}"
        ) from error


def variable_of(field: str) -> str:
    """Return the environment variable that holds a setting."""
    return field.upper() if field.lower().startswith("mlflow_") else f"{PREFIX}{field.upper()}"


@cache
def _time_zones() -> frozenset[str]:
    """Return the zones this machine knows, which takes reading hundreds of files."""
    return frozenset(zoneinfo.available_timezones())


def _refuse_unknown(names: Any) -> None:  # noqa: ANN401  any names
    known = {variable_of(field) for field in Settings.model_fields} | _READ_BY_TESTS
    for name in sorted(names):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise SettingsError(
                f"{name}: there is no such setting; known are {', '.join(sorted(known - _READ_BY_TESTS))}"
            )
