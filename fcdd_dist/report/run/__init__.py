"""The report of a run."""

from __future__ import annotations

from ...storage import Store
from ..pages import Pages
from .charts import charts
from .facts import read_facts
from .markdown import markdown
from .page import page


def report(run: Store) -> Pages:
    """Raises NotFound where ``run`` is no run folder, and Damaged, naming file and place, for what can't be read."""
    facts = read_facts(run)
    drawn = charts(facts)
    return Pages(page(facts, drawn), markdown(facts, drawn), drawn)
