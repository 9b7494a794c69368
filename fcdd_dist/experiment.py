"""What is computed: one frozen, complete value.

An ``Experiment`` holds everything that the result depends on and nothing else: where and on how many workers it runs
is no part of it. Two experiments with equal ``id`` give the same detector from the same data. ``epochs`` is left out
of the id, since N epochs are a prefix of M > N.

The JSON form is strict: unknown or ill-typed keys are refused with the nearest known path, and
``from_json(to_json(e)) == e``. Overrides such as ``optimizer.lr=0.001`` go through the same check.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from .errors import BadInput, nearest

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Value(BaseModel):
    """A frozen value that knows all its fields and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_FORM = re.compile(r"(?:png|jpeg(?P<quality>[1-9]\d?|100))-(?P<short>short)?(?P<side>[1-9]\d{0,4})-"
                   r"(?P<colour>grey|rgb)")
_FIT = re.compile(r"(?P<fit>square|short-side)-(?P<side>[1-9]\d{0,4})")


class Form(Value):
    """How every image of a data set is stored: ``png-28-grey``, ``jpeg95-240-rgb``, ``jpeg90-short256-rgb``.

    Nominal, hold-out, test and exposure images of a run have one form: otherwise the net learns the codec.
    """

    side: Count  # pixels
    channels: Literal[1, 3]
    quality: int | None  # of the JPEG encoder; None means PNG
    # Square: the whole image scaled to ``side`` by ``side``, its aspect not kept. Short side: the aspect kept, the
    # short side scaled to ``side``, the long one cut centrally to at most twice as much.
    fit: Literal["square", "short-side"] = "square"

    @model_validator(mode="after")
    def _mixed_sizes_are_jpeg(self) -> Form:
        if self.fit == "short-side" and self.quality is None:
            raise ValueError("images whose sizes differ are stored as JPEG")
        return self

    @model_serializer(mode="wrap")
    def _as_before_there_was_a_choice(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the default fit, so that the ids of experiments and data sets stay what they were."""
        fields = serialize(self)
        if self.fit == "square":
            fields.pop("fit", None)
        return fields

    def __str__(self) -> str:
        codec = "png" if self.quality is None else f"jpeg{self.quality}"
        short = "short" if self.fit == "short-side" else ""
        return f"{codec}-{short}{self.side}-{'grey' if self.channels == 1 else 'rgb'}"

    @property
    def longest(self) -> int:
        """Pixels that a stored side may have at most."""
        return self.side if self.fit == "square" else 2 * self.side

    @property
    def extension(self) -> str:
        return "png" if self.quality is None else "jpg"

    @classmethod
    def parse(cls, text: str, like: Form | None = None) -> Form:
        """``square-SIDE`` and ``short-side-SIDE`` take all else from ``like``. Raises BadInput for what is no form."""
        if like is not None and (match := _FIT.fullmatch(text)):
            side, fit = int(match["side"]), match["fit"]
            if fit == "short-side" and like.quality is None:
                raise BadInput(f"{text}: images whose sizes differ are stored as JPEG: write jpeg90-short{side}-rgb")
            return like.model_copy(update={"side": side, "fit": fit})
        match = _FORM.fullmatch(text)
        if not match or (match["short"] and not match["quality"]):
            short = "" if like is None else "square-256 or short-side-256 (or another number of pixels), or all of it, "
            raise BadInput(f"{text!r} is no stored form: write {short}png-SIDE-grey|rgb, jpegQUALITY-SIDE-grey|rgb or "
                           f"jpegQUALITY-shortSIDE-grey|rgb, for example png-32-rgb, jpeg90-256-rgb or "
                           f"jpeg90-short256-rgb")
        quality = match["quality"]
        return cls(side=int(match["side"]), channels=1 if match["colour"] == "grey" else 3,
                   quality=int(quality) if quality else None, fit="short-side" if match["short"] else "square")


class Data(Value):
    """Which images are nominal and how they are read."""

    recipe: str
    nominal: str  # the id of the nominal class
    form: Form
    # With constants measured on the nominal training images; "imagenet" is mean-std with the paper's constants.
    normalization: Literal["lcn-minmax", "mean-std", "imagenet"]
    repeats: Count = 1  # passes over the nominal images that make one epoch
    train_on: Literal["train", "train+holdout"] = "train"
    window: Count = 2048  # samples of a lane that are shuffled together


class Exposure(Value):
    """How outlier exposure replaces nominal images (paper, Section 3 and Appendix C)."""

    probability: Fraction = 0.5
    limit: Count | None = None  # use only so many exposure images, a random subset
    order_seed: int = 0  # detectors with one order_seed, batch size and lanes see the same exposure images


class Network(Value):
    """A fully convolutional net of Appendix B."""

    name: str
    bias: bool = True  # of every convolution; the published runs had it, the printed parameter counts do not
    affine: bool = True  # of batch norm; likewise
    batch_norm: Literal["world", "rank"] = "world"  # statistics over the global batch, or over a rank's part


class FcddObjective(Value):
    """Equation (2) of the paper."""

    kind: Literal["fcdd"] = "fcdd"


class Noise(Value):
    """Additive Gaussian noise on values in [0, 1]."""

    std: NotNegative = 0.001
    probability: Fraction = 1.0  # that an image gets any
    relative: bool = False  # std is in units of the image's own standard deviation
    clamp: bool = False  # to [0, 1] afterwards


class Augmentation(Value):
    """The random half of preprocessing, in this order: jitter, crop, flip, noise (Appendix C)."""

    # Presets of (brightness, contrast, saturation, hue) strengths, of which each image takes one; () for none.
    jitter: tuple[tuple[NotNegative, NotNegative, NotNegative, Annotated[float, Field(ge=0, le=0.5)]], ...] = ()
    # "random" crops are of stored images that are larger than the net's input; tested is then the centre.
    crop: Literal["none", "pad", "random-or-resize", "random"] = "none"
    padding: Annotated[int, Field(ge=0)] = 0  # zeros around the image before a crop of kind "pad"
    flip: Fraction = 0.0  # probability of a horizontal flip
    noise: Noise | None = None


class Sgd(Value):
    kind: Literal["sgd"] = "sgd"
    lr: Positive
    momentum: Fraction = 0.9
    nesterov: bool = True
    weight_decay: NotNegative = 1e-6  # the L2 term of the optimizer

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Sgd:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Value):
    kind: Literal["adam"] = "adam"
    lr: Positive
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NotNegative = 1e-6  # the L2 term of the optimizer, not decoupled


class Exponential(Value):
    """lr(e) = lr0 * factor ** (shorten * e), e counted from 0."""

    kind: Literal["exponential"] = "exponential"
    factor: Positive
    shorten: Positive = 1.0

    def scale(self, epoch: int) -> float:
        return self.factor ** (self.shorten * epoch)


class Milestones(Value):
    """lr(e) = lr0 * factor ** (number of milestones / shorten that are <= e), e counted from 0."""

    kind: Literal["milestones"] = "milestones"
    milestones: tuple[Count, ...]
    factor: Positive = 0.1
    shorten: Positive = 1.0

    def scale(self, epoch: int) -> float:
        return self.factor ** sum(epoch >= milestone / self.shorten for milestone in self.milestones)


class Heatmap(Value):
    """How a map becomes a picture (Algorithm 1 and Appendix A)."""

    sigma: Positive | None = None  # pixels; None for the paper's rule on the size of the receptive field
    kernel: Literal["code", "literal"] = "code"  # the authors' flat-topped kernel, or Algorithm 1 to the letter
    eta: Annotated[float, Field(gt=0, le=1)] = 0.97  # the quantile of the reference maps that is shown as 1


class Experiment(Value):
    """Everything that a detector depends on, but for the bytes of its data."""

    data: Data
    exposure: Exposure = Exposure()
    network: Network
    objective: FcddObjective = FcddObjective()
    augmentation: Augmentation = Augmentation()
    optimizer: Annotated[Sgd | Adam, Field(discriminator="kind")]
    schedule: Annotated[Exponential | Milestones, Field(discriminator="kind")]
    heatmap: Heatmap = Heatmap()
    batch_size: Count
    epochs: Count
    lanes: Count = 8
    precision: Literal["bf16", "float32"] = "float32"
    seed: int = 0

    @model_validator(mode="after")
    def _lanes_have_rows(self) -> Experiment:
        if self.lanes > self.batch_size:
            raise ValueError(f"lanes: {self.lanes} lanes can't share a batch of {self.batch_size}")
        return self

    @property
    def id(self) -> str:
        """64 bits in hex that stand for this experiment, without its number of epochs."""
        return identity(self.model_dump(mode="json", exclude={"epochs"}))

    def to_json(self) -> str:
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Raises BadInput that names the path, what is wrong with it, and the nearest known one."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadInput(f"experiment: {explain(error, cls)}") from None

    def override(self, settings: Iterable[str]) -> Experiment:
        """A copy with ``PATH=VALUE`` settings, VALUE being JSON or a plain word. Raises BadInput."""
        tree, settings = json.loads(self.to_json()), list(settings)
        for setting in settings:
            path, equals, text = setting.partition("=")
            if not equals or not path:
                raise BadInput(f"{setting!r} is no setting: write PATH=VALUE, for example optimizer.lr=0.001")
            _assign(tree, path, _value(text))
        experiment = Experiment.from_json(json.dumps(tree))
        padding, crop = experiment.augmentation.padding, experiment.augmentation.crop
        if padding and crop != "pad" and any(s.partition("=")[0] == "augmentation.padding" for s in settings):
            raise BadInput(f"augmentation.padding={padding} does nothing with augmentation.crop={crop}: leave it out, "
                           f"or set augmentation.crop=pad")
        return experiment


def identity(tree: Any) -> str:
    """16 hex digits: the hash of the canonical JSON of ``tree``."""
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def differences(ours: Experiment, theirs: Experiment) -> list[str]:
    """``path: theirs -> ours`` for every leaf in which the two differ, ``epochs`` left out."""
    mine, other = (dict(leaves(e.model_dump(mode="json", exclude={"epochs"}))) for e in (ours, theirs))
    absent = "absent"
    return [f"{path}: {json.dumps(other[path]) if path in other else absent} -> "
            f"{json.dumps(mine[path]) if path in mine else absent}"
            for path in sorted(mine.keys() | other.keys()) if mine.get(path, absent) != other.get(path, absent)]


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for the first thing that ``error`` complains of."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    for kind in ("sgd", "adam", "exponential", "milestones"):  # a tag that pydantic puts into paths of unions
        path = path.replace(f".{kind}.", ".")
    if first["type"] == "extra_forbidden":
        known = paths(model)
        if path in known:  # of another member of the union
            return f"there is no field {path} in what is there; give the whole {path.rpartition('.')[0]} as JSON"
        return f"there is no field {path}{nearest(path, known)}"
    message = (first["msg"][:1].lower() + first["msg"][1:]).replace("value error, ", "")
    given = first["input"]
    shown = f", not {json.dumps(given)}" if isinstance(given, str | int | float | None) and path in paths(model) else ""
    return f"{path}: {message}{shown}" if path else message


def newer_schema(text: bytes | str, known: int) -> bool:
    """Whether a stored record says that it is of a later schema than the one that we know."""
    try:
        version = json.loads(text)["schema_version"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(version, int) and version > known


def paths(model: type[BaseModel]) -> list[str]:
    """The dotted paths of all fields of ``model``, of every member of its unions."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        inner = [name]
        for member in _models(field.annotation):
            inner += [f"{name}.{path}" for path in paths(member)]
        found += inner
    return list(dict.fromkeys(found))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models(argument)]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(tree: dict, path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    node = tree
    for parent in parents:
        if not isinstance(node, dict) or parent not in node:
            raise BadInput(f"there is no field {path}{nearest(path, paths(Experiment))}")
        if node[parent] is None:
            node[parent] = {}
        node = node[parent]
    if not isinstance(node, dict) or (leaf not in node and path not in paths(Experiment)):
        raise BadInput(f"there is no field {path}{nearest(path, paths(Experiment))}")
    node[leaf] = value


def leaves(tree: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """(dotted path, value) of everything in a tree of dictionaries."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, tree
