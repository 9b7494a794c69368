"""Which files a person means by images, folders and globs."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from ..data.sources.folders import EXTENSIONS
from ..data.sources.folders import find_images as images_in
from ..errors import BadInput, NotFound


def find_images(arguments: Iterable[str], out: str) -> list[Path]:
    """The files that ``arguments`` name, each once, in order; folders and globs leave out what lies in ``out``.

    Folders are searched as when sharding: hidden files are passed over. Raises BadInput for an argument that names
    none.
    """
    found: dict[Path, None] = {}
    pictures = Path(out).resolve()
    for argument in arguments:
        path = Path(argument).expanduser()
        if path.is_dir():
            files = [path / name for name in images_in(path, "")]
            files = [file for file in files if not file.resolve().is_relative_to(pictures)]
            if not files:
                raise BadInput(f"{argument} holds no images ({', '.join(sorted(EXTENSIONS))})")
        elif path.exists():
            files = [path]
        else:
            matches = (Path(match) for match in sorted(glob.glob(str(path), recursive=True)))
            files = [match for match in matches if match.is_file() and not match.resolve().is_relative_to(pictures)]
            if not files:
                raise NotFound(f"there is no {argument}: give an image, a folder or a glob")
        found |= dict.fromkeys(files)
    return list(found)
