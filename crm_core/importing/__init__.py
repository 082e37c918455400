"""Importing an export of another system by a declarative mapping."""

from crm_core.importing.mapping import list_shipped, load_mapping
from crm_core.importing.presets import recognise_export
from crm_core.importing.report import ImportProgress, ImportReport, Refusal, StepReport
from crm_core.importing.run import run_import
from crm_core.importing.specs import Mapping

__all__ = [
    "ImportProgress",
    "ImportReport",
    "Mapping",
    "Refusal",
    "StepReport",
    "list_shipped",
    "load_mapping",
    "recognise_export",
    "run_import",
]
