"""The images that a person means by files, folders and globs, on this machine and in object storage."""

from __future__ import annotations

import glob
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath

from PIL.Image import Image

from ..data.images import MAX_BYTES, BadImage, check_bytes, load_image
from ..data.sources.folders import EXTENSIONS, is_image, read_bytes
from ..data.sources.folders import find_images as images_in
from ..errors import BadInput, NotFound
from ..storage import Entry, Store, absolute, open_store
from ..threads import Threads

_MAGIC = re.compile(r"[*?\[]")
_AHEAD = 8  # images that are fetched while one is looked at,
_HELD = MAX_BYTES  # or fewer, if they have more bytes than this together


@dataclass(frozen=True)
class Given:
    """An image file. ``read`` gives its bytes, or raises BadImage with the reason."""

    where: str  # its path or URL
    size: int = field(compare=False)  # bytes, as far as is known without reading it
    read: Callable[[], bytes] = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        return PurePosixPath(self.where).name

    def lies_in(self, place: str) -> bool:
        """Whether it is below ``place``, a folder's path (links are followed) or a URL."""
        if "://" in self.where or "://" in place:
            return self.where.startswith(f"{place.rstrip('/')}/")
        return Path(self.where).resolve().is_relative_to(Path(place).resolve())


def find_images(arguments: Iterable[str | Given], out: str) -> list[Given]:
    """The files that ``arguments`` name, each once, in order; folders and globs leave out what lies in ``out``.

    Folders, and prefixes of object storage alike, are searched as when sharding: hidden files are passed over. What
    was found before is taken as it is. Raises BadInput for an argument that names none.
    """
    pictures = absolute(out)
    found: dict[Given, None] = {}
    for argument in arguments:
        if isinstance(argument, Given):
            found[argument] = None
            continue
        place = absolute(argument) if "://" in argument else argument
        images, searched = _in_store(place) if "://" in place else _on_disk(place)
        if searched:
            there, images = images, [image for image in images if not image.lies_in(pictures)]
            if there and not images:
                raise BadInput(f"what {argument} names lies in {out}, which is about to be written: give another --out")
        if not images and searched == "folder":
            raise BadInput(f"{argument} holds no images ({', '.join(sorted(EXTENSIONS))})")
        if not images:
            raise NotFound(f"there is no {argument}: give an image, a folder or a glob")
        found |= dict.fromkeys(images)
    return list(found)


def read_images(images: Iterable[Given]) -> Iterator[tuple[Given, Image | BadImage]]:
    """Each with what it holds, or why it can't be read; decoded one at a time, and fetched a few ahead."""
    upcoming, waiting, held = deque(images), deque(), 0
    threads = Threads(_AHEAD, "images")
    try:
        while upcoming or waiting:
            while upcoming and len(waiting) < _AHEAD and (not waiting or held + upcoming[0].size <= _HELD):
                image = upcoming.popleft()
                waiting.append((image, threads.submit(image.read)))
                held += image.size
            image, data = waiting.popleft()
            try:
                result = load_image(data.result())
            except BadImage as error:
                result = error
            held -= image.size
            del data
            yield image, result
    finally:
        threads.close()


def _on_disk(argument: str) -> tuple[list[Given], str]:
    """What an argument names, and whether a "folder" or a "glob" was searched for it, or nothing was ("")."""
    path = Path(argument).expanduser()
    if path.is_dir():
        return [_file(path / name) for name in images_in(path, "")], "folder"
    if path.exists():
        return [_file(path)], ""
    matches = (Path(match) for match in sorted(glob.glob(str(path), recursive=True)))
    return [_file(match) for match in matches if match.is_file()], "glob"


def _file(path: Path) -> Given:
    size = path.stat().st_size if path.exists() else 0  # a broken link counts: reading it gives the reason
    return Given(str(path), min(size, MAX_BYTES), partial(read_bytes, str(path)))


def _in_store(url: str) -> tuple[list[Given], str]:
    """As ``_on_disk``, by the keys of a bucket."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    store = open_store(f"{scheme}://{bucket}")
    if key:
        try:
            return [_object(store, Entry(key, store.size(key), 0.0))], ""
        except NotFound:
            pass  # a folder, then, or a glob
    folder = f"{key}/" if key else ""
    below = [(entry, entry.key.removeprefix(folder).split("/")) for entry in store.list(folder)]
    if below:
        return [_object(store, entry) for entry, parts in below if is_image(parts[-1])
                and not any(part.startswith(".") for part in parts)], "folder"
    if magic := _MAGIC.search(key):
        pattern = key.split("/")
        return [_object(store, entry) for entry in store.list(key[:magic.start()])
                if _matches(entry.key.split("/"), pattern)], "glob"
    return [], ""


def _object(store: Store, entry: Entry) -> Given:
    return Given(f"{store.url}/{entry.key}", min(entry.size, MAX_BYTES), partial(_fetch, store, entry))


def _fetch(store: Store, entry: Entry) -> bytes:
    check_bytes(entry.size)
    try:
        return store.read(entry.key)
    except NotFound as error:  # what else fails is no fault of the image
        raise BadImage(f"it can't be read: {error}") from None
    except ValueError:
        raise BadImage("it can't be read: a part of its key is empty, '.' or '..'") from None


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a key is what ``glob`` finds among paths: ``*`` stays in a part, ``**`` is any number of folders, and
    neither means hidden ones."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    hidden = parts[0].startswith(".")
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (not hidden and _matches(parts[1:], pattern))
    return (fnmatchcase(parts[0], pattern[0]) and (not hidden or pattern[0].startswith("."))
            and _matches(parts[1:], pattern[1:]))
