"""The report accounts for every row."""

from __future__ import annotations

import json
from pathlib import Path

from tests.importing.conftest import LEADS, Workbench

FILTER = '\n[[records.leave_out]]\nreason = "a test"\ncolumn = "company"\nequals = "Test"\n'


def write(bench: Workbench, bad: int) -> None:
    rows = ["L1,Hill,fair,2024-05-01,x", "L2,Test,fair,2024-05-01,x"]
    rows += [f"B{number},Dälé,fair,never,x" for number in range(bad)]
    bench.write("leads.csv", "\n".join(["id,company,source,created,extra", *rows, ""]))


def test_the_report_as_json_holds_counts_refusals_and_what_was_not_used(bench: Workbench) -> None:
    write(bench, bad=1)
    found = json.loads(json.dumps(bench.run(LEADS + FILTER).to_json()))
    assert found.pop("seconds") >= 0
    assert found == {
        "mapping": "test",
        "steps": [
            {
                "step": "leads",
                "record_type": "lead",
                "event": None,
                "file": "leads.csv",
                "rows_read": 3,
                "records": 3,
                "written": 1,
                "updated": 0,
                "unchanged": 0,
                "refused": 1,
                "left_out": {"a test": 1},
                "notes": {},
            }
        ],
        "refused": 1,
        "refusals": [
            {
                "step": "leads",
                "file": "leads.csv",
                "line": 4,
                "column": "created",
                "value": "never",
                "reason": "expected a date as YYYY-MM-DD[ HH:MM[:SS]]",
            }
        ],
        "refusals_not_listed": 0,
        "encodings": {},
        "found_out": [],
        "not_recognised": [],
        "dry_run": False,
        "unused_columns": {"leads.csv": ["extra"]},
        "observed_until": {},
    }


def test_the_report_in_words_shows_the_first_refusals_only(bench: Workbench) -> None:
    write(bench, bad=12)
    lines = bench.run(LEADS + FILTER).in_words(refusals=2)
    assert lines == [
        "leads.csv -> lead (leads): 14 rows: 1 written, 1 left out (a test), 12 refused",
        "leads.csv: columns not used: extra",
        "refused: leads.csv, line 4: created: expected a date as YYYY-MM-DD[ HH:MM[:SS]], got 'never'",
        "refused: leads.csv, line 5: created: expected a date as YYYY-MM-DD[ HH:MM[:SS]], got 'never'",
        "refused: 10 more",
    ]


def test_every_refusal_is_in_the_file_of_refusals(bench: Workbench, tmp_path: Path) -> None:
    write(bench, bad=12)
    path = tmp_path / "refusals.jsonl"
    report = bench.run(LEADS, refusals_file=path)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [refusal.to_json() for refusal in report.refusals]
    assert len(lines) == report.refused == 12
