"""The report of a sweep."""

from __future__ import annotations

from ...storage import Store
from ..pages import Pages
from .charts import class_chart, search_charts
from .facts import read_facts
from .markdown import markdown
from .page import page


def report(sweep: Store) -> Pages:
    """Raises NotFound where ``sweep`` is no folder of one, and Damaged, naming file and place, for what can't be read.
    """
    facts = read_facts(sweep)
    classes, fields = class_chart(facts), search_charts(facts)
    return Pages(page(facts, classes, fields), markdown(facts, classes, fields), [*classes, *fields])
