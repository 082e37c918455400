"""A small simulated company with a model of its leads, served by a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from crm_core import migrations
from crm_core.access import Reader
from crm_core.changes import Source
from crm_core.promotions import find_champion
from crm_core.records import Lead, LeadStatus, User
from crm_core.store import Store
from crm_core.tokens import create_token
from models.bundle import ModelBundle
from models.kept import read_kept
from models.simulation import simulate_company
from serving.home import Home
from serving.modelling import open_registry
from serving.training_runs import score_task, train_task
from tests.bench.lines import wait_until

TASK = "lead_scoring"
WHO = "mara@example.com"
"""A manager: what she may see depends on who is in the teams below hers."""

_ROOT = Path(__file__).resolve().parents[2]
_CRM = "import sys; from serving.cli import main; sys.argv[0] = 'crm'; main()"


@dataclass(frozen=True, kw_only=True)
class Company:
    """Where a company is kept, how its manager is let in, and the leads that she may score."""

    home: Home
    key: str
    leads: tuple[int, ...]

    @property
    def headers(self) -> dict[str, str]:
        """What each request carries."""
        return {"Authorization": f"Bearer {self.key}"}


def make_company(folder: Path, database_url: str | None = None) -> Company:
    """Simulate a company, train on its leads and score them."""
    home = Home.at(folder / "home", database_url=database_url)
    home.create()
    migrations.upgrade(home.database_url)
    store = Store(home.database_url)
    simulate_company(store, size="small", seed=1)
    train_task(home, store, TASK)
    score_task(home, store, TASK)
    with store.transaction(source=Source.API) as transaction:
        session = transaction.session
        user = session.scalars(select(User).where(User.email == WHO)).one()
        key = create_token(session, user_id=user.id, name="bench", now=transaction.now)
        seen = Reader(session, user).select(Lead).where(Lead.status == LeadStatus.OPEN).order_by(Lead.id)
        leads = tuple(lead.id for lead in session.scalars(seen))
    store.close()
    return Company(home=home, key=key, leads=leads)


def champion_of(company: Company) -> tuple[ModelBundle, Path]:
    """Return the model that serves, and the folder of the same one as MLflow keeps it."""
    store = Store(company.home.database_url)
    with store.reading() as session:
        promotion = find_champion(session, TASK)
    store.close()
    if promotion is None:
        raise LookupError("nothing was trained")
    bundle = read_kept(promotion, company.home.models, lambda: open_registry(company.home))
    return bundle, Path(company.home.artifacts) / TASK / promotion.run_id / "artifacts" / "model"


@contextmanager
def served(company: Company) -> Iterator[str]:
    """Serve a company as `crm serve` does; give the address."""
    told = company.home.folder / "served.txt"
    command = [sys.executable, "-c", _CRM, "serve", "--home", str(company.home.folder), "--port", "0"]
    environment = {**os.environ, "CRM_DATABASE_URL": company.home.database_url, "CRM_API_RATE": "0"}
    with running(command, told, environment):
        pattern = re.compile(r"Serving at (\S+)")
        wait_until(
            lambda: bool(pattern.search(told.read_text())), seconds=120, what="the service did not serve"
        )
        found = pattern.search(told.read_text())
        yield found.group(1) if found else ""


@contextmanager
def running(command: list[str], told: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a command until the block ends; what it prints goes to a file."""
    with told.open("w") as out:
        process = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
