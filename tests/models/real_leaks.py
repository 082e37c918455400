"""The known leaks of the public data sets, put back in as a careless mapping would."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crm_core.importing import Mapping, run_import
from crm_core.importing.mapping import SHIPPED, parse_mapping
from crm_core.store import Store

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RealSet:
    """A data set: the mapping to spoil, the task that learns from it, and what its guard must say.

    `leaks` must be refused, `doubtful` warned of. `spoil` puts the leaks, and columns that the mapping does
    not use, among what is known at creation.
    """

    mapping: str
    folder: str
    task: str
    leaks: frozenset[str]
    doubtful: frozenset[str]
    spoil: Callable[[Document], None]

    def load(self) -> Mapping:
        """Return the spoilt mapping."""
        document = tomllib.loads((SHIPPED / f"{self.mapping}.toml").read_text(encoding="utf-8"))
        self.spoil(document)
        return parse_mapping(document)


def column(name: str, kind: str, **more: object) -> Document:
    """Return a custom field as a mapping declares it that believes it was known from the start."""
    return {"column": name, "kind": kind, "known": "creation", **more}


OLIST_COLUMNS = {
    "seller_id": "text",
    "sdr_id": "text",
    "sr_id": "text",
    "won_date": "day",
    "business_segment": "text",
    "lead_type": "text",
    "lead_behaviour_profile": "text",
    "has_company": "flag",
    "has_gtin": "flag",
    "average_stock": "text",
    "business_type": "text",
    "declared_product_catalog_size": "number",
    "declared_monthly_revenue": "number",
}


def spoil_olist(document: Document) -> None:
    """Join the table of closed deals to the leads, as one would who wants more columns."""
    leads = document["records"][0]
    document["records"] = [each for each in document["records"] if each["name"] != "orders"]
    document["coverage"].pop("order")
    del document["events"][0]["custom"]
    for name, kind in OLIST_COLUMNS.items():
        value = {"column": name, "kind": kind}
        if kind == "day":
            value["format"] = "%Y-%m-%d %H:%M:%S"
        document["lookups"][name] = {"file": "closed", "key": "mql_id", "value": value}
        leads["custom"][name] = {"lookup": name, "by": "mql_id", "kind": kind, "known": "creation"}


ECI_LEAKS = {
    "has_contract": column("has_contract", "flag", take="any"),
    "last_modified_date_period": column("Last_Modified_Date_Period", "number"),
    "last_modified_date_year": column("Last_Modified_Date_Year", "number"),
    "last_modified_date_month": column("Last_Modified_Date_Month", "number"),
    "modify_range_days": column("Modify_Range_days", "number"),
    "opportunities_by_owner": column("Opportunities_By_Owner", "number"),
    "created_date_weight": column("Opportunity_Created_Date_weight", "number"),
    "created_date_weight_log": column("Opportunity_Created_Date_weight_log", "number"),
}

ECI_HONEST = {
    "quote_range_days": column("Quote_Range_days", "number"),
    "planned_range_days": column("Planned_Range_days", "number"),
    "total_taxable_amount": column("Total_Taxable_Amount", "number", take="max"),
    "taxable_amount_converted": column("Total_Taxable_Amount_Converted", "number", take="max"),
    "amount_converted": column("Total_Amount_Converted_Opportunity", "number"),
    "diff_amount": column("Diff_Amount", "number", take="max"),
    "rate": column("rate", "number"),
    "account_created_year": column("Account_Created_Date_Year", "number"),
    "account_created_month": column("Account_Created_Date_Month", "number"),
    "created_month": column("Opportunity_Created_Date_Month", "number"),
    "quote_expiry_period": column("Quote_Expiry_Date_Period", "number"),
    "delivery_start_period": column("Planned_Delivery_Start_Date_Period", "number", take="min"),
    "delivery_end_period": column("Planned_Delivery_End_Date_Period", "number", take="max"),
    "asp_converted": column("ASP_was_converted", "flag"),
    "quote_expiry_imputed": column("Quote_Expiry_Date_Imputed", "flag"),
    "delivery_end_imputed": column("Planned_Delivery_End_Date_Imputed", "flag"),
    "country_imputed": column("Billing_Country_Imputed", "flag"),
    "amount_imputed": column("Total_Amount_Imputed", "number"),
    "territory_imputed": column("Territory_Imputed", "number"),
    "product_count": column("Product_Count", "number", take="max"),
    "product_distinct_count": column("Product_Distinct_Count", "number", take="max"),
    "family_distinct_count": column("Family_Distinct_Count", "number", take="max"),
}


def spoil_eci(document: Document) -> None:
    """Believe every column of the file to be known when the opportunity was made."""
    deals = next(each for each in document["records"] if each["name"] == "deals")
    del document["events"][0]["custom"]
    deals["custom"] |= ECI_LEAKS | ECI_HONEST
    _believe_all(deals["custom"].values())


def spoil_ibm(document: Document) -> None:
    """Believe what was measured at closing to have been known before."""
    _believe_all(document["records"][0]["custom"].values())


def spoil_telco(document: Document) -> None:
    """Leave it as it is: this file is known for no leak."""


def _believe_all(fields: Iterable[Document]) -> None:
    for each in fields:
        each["known"] = "creation"


SETS = {
    "olist": RealSet(
        mapping="olist",
        folder="olist",
        task="lead_scoring",
        leaks=frozenset(OLIST_COLUMNS),
        doubtful=frozenset(),
        spoil=spoil_olist,
    ),
    "eci": RealSet(
        mapping="eci",
        folder="eci2020",
        task="win_probability",
        leaks=frozenset(ECI_LEAKS),
        doubtful=frozenset(),
        spoil=spoil_eci,
    ),
    "ibm": RealSet(
        mapping="ibm-win-loss",
        folder="ibm_win_loss",
        task="win_probability",
        leaks=frozenset(
            {
                "elapsed_days_in_stage",
                "stage_change_count",
                "days_identified_to_closing",
                "days_identified_to_qualified",
                "ratio_days_identified",
                "ratio_days_validated",
                "ratio_days_qualified",
            }
        ),
        doubtful=frozenset({"client_revenue_past_two_years"}),
        spoil=spoil_ibm,
    ),
    "telco": RealSet(
        mapping="telco-churn",
        folder="telco_churn",
        task="churn",
        leaks=frozenset(),
        doubtful=frozenset(),
        spoil=spoil_telco,
    ),
}
"""The data sets by a short name."""


def import_spoilt(store: Store, real: RealSet, data: Path, scratch: Path, *, rows: int | None = None) -> None:
    """Import a data set with its leaks; with `rows`, so many of its rows at random."""
    folder = data / real.folder
    if rows is not None:
        folder = _sample(folder, scratch, rows)
    run_import(store, real.load(), folder)


def _sample(folder: Path, scratch: Path, rows: int) -> Path:
    for file in folder.glob("*.csv"):
        head, *lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        chosen = sorted(random.Random(1).sample(range(len(lines)), min(rows, len(lines))))
        (scratch / file.name).write_text("".join([head, *(lines[row] for row in chosen)]), encoding="utf-8")
    return scratch
