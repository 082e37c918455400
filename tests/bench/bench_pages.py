"""Ten people click through every page of a served medium company, each thinking for a second between clicks.

Beside what is asked: half of the answers within 200 ms, ninety-nine of a hundred within 500 ms, from the
click to the last byte. A line for each kind of page follows. A company takes minutes to make:
`BENCH_HOME` names the home of a demonstration to be copied instead.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from crm_core import migrations
from crm_core.records import Role
from crm_core.store import Store
from serving.app import create_app
from serving.champions import Champions
from serving.demo import make_demo
from serving.logs import start_logging
from serving.modelling import scorer_loader
from serving.settings import Settings
from tests.bench.company import Company, served
from tests.bench.harness import Aspect, Benchmark, Contest, Figures
from tests.serving.every_page import PAGES, Is, Places, find_places
from tests.serving.screenshots import cookie_of

PEER = "what is asked"
MEDIAN, SLOWEST = 0.2, 0.5
PEOPLE = (*(Role.REP,) * 6, *(Role.MANAGER,) * 2, Role.ANALYST, Role.ADMIN)
THINKING = 1.0
SECONDS = 60.0

WHOLE = tuple(endpoint for endpoint, page in PAGES.items() if page.is_a is Is.PAGE and page.roles)


@dataclass
class Clicks:
    """What the people saw: by page, how long each answer took."""

    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: list[str] = field(default_factory=list)

    def figures(self) -> tuple[float, ...]:
        """Return the median of all, their 99th percentile, and the median of each kind of page."""
        everything = sorted(one for page in self.taken.values() for one in page)
        slowest = everything[min(len(everything) - 1, int(len(everything) * 0.99))]
        each = [statistics.median(self.taken[endpoint]) for endpoint in WHOLE]
        return (statistics.median(everything), slowest, *each)


class Office:
    """A served company, and the people who click."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        settings = Settings(home=_home(folder))
        start_logging(settings.home_folder.logs, level="error")
        migrations.upgrade(settings.home_folder.database_url)
        store = Store(settings.home_folder.database_url)
        champions = Champions(store, scorer_loader(settings.home_folder, store))
        champions.refresh()
        app = create_app(settings, store, champions)
        self._places: Places = find_places(app, store, settings)
        self._cookies = [cookie_of(app, self._places.cast[role]) for role in PEOPLE]
        store.close()
        company = Company(home=settings.home_folder, key="", leads=())
        self._address = urlsplit(self._stack.enter_context(served(company)))

    def close(self) -> None:
        """Stop the service."""
        self._stack.close()

    def work(self) -> Figures:
        """Have everybody click for a while; return what they waited, in seconds."""
        clicks, until = Clicks(), time.perf_counter() + SECONDS
        everybody = [
            threading.Thread(target=self._click, args=(number, clicks, until))
            for number in range(len(PEOPLE))
        ]
        for one in everybody:
            one.start()
        for one in everybody:
            one.join()
        if clicks.refused:
            raise RuntimeError(f"pages were refused: {sorted(set(clicks.refused))}")
        return clicks.figures()

    def _click(self, number: int, clicks: Clicks, until: float) -> None:
        """Go through one's pages in one's own order, again and again, but through all of them once."""
        drawn = random.Random(number)
        pages = self._places.of(PEOPLE[number], WHOLE)
        drawn.shuffle(pages)
        connection = HTTPConnection(self._address.hostname or "", self._address.port or 0, timeout=60)
        seen = 0
        time.sleep(drawn.uniform(0, THINKING))
        while seen < len(pages) or time.perf_counter() < until:
            endpoint, path = pages[seen % len(pages)]
            started = time.perf_counter()
            connection.request("GET", path, headers={"Cookie": f"crm={self._cookies[number]}"})
            answer = connection.getresponse()
            answer.read()
            clicks.taken[endpoint].append(time.perf_counter() - started)
            if answer.status != 200:
                clicks.refused.append(f"{path}: {answer.status}")
            seen += 1
            time.sleep(drawn.uniform(0.5, 1.5) * THINKING)
        connection.close()


def _home(folder: Path) -> Path:
    home = folder / "home"
    kept = os.environ.get("BENCH_HOME")
    if kept:
        shutil.copytree(kept, home, ignore=shutil.ignore_patterns("mlartifacts"))
    else:
        print("simulating and training a medium company takes some minutes", file=sys.stderr)
        make_demo(Settings(home=home), size="medium", seed=1)
    return home


def click(folder: Path) -> Contest:
    """Return the contest between what people wait and what is asked."""
    office = Office(folder)
    asked = (MEDIAN, SLOWEST, *(MEDIAN for _ in WHOLE))
    return Contest(ours=office.work, peer=lambda: asked, close=office.close)


BENCHMARKS = (
    Benchmark(
        name="pages",
        peer_name=f"{PEER}: 200 ms at the median",
        prepare=click,
        asked=1.0,
        also=(
            Aspect(name="slowest", peer_name=f"{PEER}: 500 ms at the 99th percentile", unit="s", asked=1.0),
            *(
                Aspect(name=endpoint.replace(".", "_"), peer_name=PEER, unit="s", asked=1.0)
                for endpoint in WHOLE
            ),
        ),
        rounds=1,
    ),
)
