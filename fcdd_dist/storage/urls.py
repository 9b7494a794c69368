"""What a URL means."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit

from ..errors import BadInput
from .folder import FolderStore
from .s3 import open_s3
from .s3.store import check_url
from .stores import Store


def absolute(url: str | os.PathLike[str]) -> str:
    """``url`` with a local path made absolute, so that workers elsewhere mean the same place. Raises BadInput."""
    url = os.fspath(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise BadInput(f"{url} is no URL ({error}): give a folder or file:///path") from None
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise BadInput(f"{url}: a file URL names no host; write file:///path or a plain path")
        return os.path.abspath(unquote(parts.path))
    if url.startswith("s3://"):
        return "/".join(["s3:/", *filter(None, check_url(url))])
    if parts.scheme == "s3":
        raise BadInput(f"{url} is neither a folder nor a URL: write s3://BUCKET/PREFIX, in small letters and with two "
                       f"slashes")
    if "://" in url:
        scheme, _, rest = url.partition("://")
        shown = f"{scheme}://..." if "@" in rest else url  # who knows what stands before it
        raise BadInput(f"{shown}: there is no storage of this kind; give a folder or s3://BUCKET/PREFIX")
    if not url:
        raise BadInput("an empty path is no place; give a folder")
    return os.path.abspath(os.path.expanduser(url))


def open_store(url: str | os.PathLike[str]) -> Store:
    """The store at ``url``: a folder's path or ``file://`` URL, or ``s3://bucket/prefix``. Opening touches nothing.

    Raises BadInput.
    """
    place = absolute(url)
    return open_s3(place) if place.startswith("s3://") else FolderStore(place)
