"""A first detector from images that come along, by the same steps as every other."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from ..data.manifest import MANIFEST, load_manifest
from ..data.shards.read import read_shard
from ..recipes import recipe
from ..run import Job
from ..storage import Store, exists, open_store
from .placement import Placement
from .train import train

_RECIPE, _WORKERS, _REPORT = "digits", 2, "report.html"
_PICTURES = "pictures"
Say = Callable[[str], None]


def quickstart(out: str, digit: int, say: Say, live: Say | None = None) -> dict:
    """Shards, trains, evaluates and reports into ``out``, a folder or a URL; what is there is not done again.

    Returns the run's result, with ``run`` for where it is.
    """
    from ..data.shards.write import shard
    from ..report.write import write_report

    data, run = f"{out}/data", f"{out}/digit-{digit}"
    if not exists(open_store(data), MANIFEST):
        say(f"writing shards of scikit-learn's digits into {data}")
        shard(_RECIPE, None, open_store(data), progress=live or say)
    _write_pictures(open_store(data), open_store(out))
    job = Job(experiment=recipe(_RECIPE).experiment(str(digit), 0), data=data, run=run)
    result = train(job, Placement(_WORKERS, _WORKERS), None, say, live)
    if not exists(open_store(run), _REPORT):
        say("writing the report")
        write_report(open_store(run))
    return {"run": run, "pictures": f"{out}/{_PICTURES}", **result}


def explanation(result: dict) -> list[str]:
    """What came out, what it means, and where to look."""
    run, threshold = result["run"], result["threshold"]["value"]
    flag = (f"  scores above {threshold:.3g} are flagged: about {result['threshold']['budget']:.0%} of "
            f"normal images would be" if threshold is not None else
            f"  no threshold: {result['threshold']['how']}")
    return [
        f"A detector that was shown {result['class_name']!r} as normal, and digits on their side and patches of "
        "photographs as outlier exposure.",
        "Upright, it saw no other digit before the test: those are what it has to find.",
        "",
        f"  AUROC {result['auroc']:.3f}   the chance that it finds a random other digit more abnormal than a random "
        f"{result['nominal']}",
        "                (0.5 is guessing, 1 is perfect)",
        f"  average precision {result['average_precision']:.3f}",
        flag,
        "",
        "This is a toy set of 1,797 pictures of 8 x 8 pixels: it shows that everything works, not how good it gets.",
        "",
        "Look at",
        f"  {run}/{_REPORT}    curves, scores and heatmaps on one page",
        f"  {run}/heatmaps/      where each picture looks abnormal",
        f"  {run}/result.json    all figures",
        f"  {run}/scores.csv     a score for every test picture",
        "",
        "Use it on pictures, these or your own light digits on a dark ground:",
        f"  fcdd-dist explain {shlex.quote(run)} {shlex.quote(result['pictures'])} --out explained",
    ]


def _write_pictures(data: Store, out: Store) -> None:
    """One test image a digit as a file, for whoever has no picture at hand: its stored bytes are a PNG."""
    for digit, part in load_manifest(data).splits["test"].items():
        out.write(f"{_PICTURES}/digit-{digit}.png", bytes(read_shard(data, part.shards[0])[0].image))
