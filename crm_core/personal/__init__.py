"""What people may ask: to see what is held about them, to be forgotten, and not to be scored."""

from __future__ import annotations

from crm_core.opting_out import may_be_scored, set_scoring_opt_out
from crm_core.personal.erasing import Erasure, Kept, erase_person, erase_person_as, purge
from crm_core.personal.exporting import export_person, hand_out_person
from crm_core.personal.files import write_person
from crm_core.personal.people import ERASED, Identifiers, Person, find_person
from crm_core.personal.places import Place, list_places_with
from crm_core.personal.wishes import set_scoring_opt_out_as

__all__ = [
    "ERASED",
    "Erasure",
    "Identifiers",
    "Kept",
    "Person",
    "Place",
    "erase_person",
    "erase_person_as",
    "export_person",
    "find_person",
    "hand_out_person",
    "list_places_with",
    "may_be_scored",
    "purge",
    "set_scoring_opt_out",
    "set_scoring_opt_out_as",
    "write_person",
]
