"""Whether policies of AWS allow a request: the part of IAM's logic that our policies use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any


def allowed(policies: Iterable[Mapping[str, Any]], action: str, resource: str,
            context: Mapping[str, str] | None = None) -> bool:
    """``context``: what the request tells, by the keys of conditions.

    Raises NotImplementedError for what our policies have no use for: Deny, and conditions other than StringEquals.
    """
    for policy in policies:
        for statement in policy["Statement"]:
            conditions = statement.get("Condition", {})
            if statement["Effect"] != "Allow" or conditions.keys() - {"StringEquals"}:
                raise NotImplementedError(f"{statement['Sid']}: a Deny, or a condition other than StringEquals")
            wanted = conditions.get("StringEquals", {})
            if (_matches(statement["Action"], action) and _matches(statement["Resource"], resource)
                    and all((context or {}).get(key) in _many(values) for key, values in wanted.items())):
                return True
    return False


def actions(*policies: Mapping[str, Any]) -> set[str]:
    return {action for policy in policies for statement in policy["Statement"] for action in _many(statement["Action"])}


def _matches(patterns: str | list[str], value: str) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in _many(patterns))


def _many(values: str | list[str]) -> list[str]:
    return [values] if isinstance(values, str) else values
