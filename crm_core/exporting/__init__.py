"""Exporting everything that a user may see to CSV, Excel or Parquet."""

from crm_core.exporting.run import EXPORTED, FORMATS, ExportReport, FileReport, export_records

__all__ = ["EXPORTED", "FORMATS", "ExportReport", "FileReport", "export_records"]
