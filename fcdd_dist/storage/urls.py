"""What a URL means."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from ..errors import BadInput
from .folder import FolderStore
from .stores import Store


def absolute(url: str) -> str:
    """``url`` with a local path made absolute, so that workers elsewhere mean the same place. Raises BadInput."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadInput(f"{url} is no URL ({error}): give a folder or file:///path") from None
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise BadInput(f"{url}: a file URL names no host; write file:///path or a plain path")
        return os.path.abspath(unquote(parts.path))
    if "://" in url:
        raise BadInput(f"{url}: storage of kind {parts.scheme}:// is not supported; give a folder or file:///path")
    if not url:
        raise BadInput("an empty path is no place; give a folder")
    return os.path.abspath(os.path.expanduser(url))


def open_store(url: str) -> Store:
    """The store at ``url``, a folder's path or ``file://`` URL. Opening touches nothing. Raises BadInput."""
    return FolderStore(absolute(url))
