"""A user's own images: class folders, or train/good with test/KIND as MVTec-AD has them.

The net and the schedule are the paper's for MVTec-AD (Appendix B and C): 200 epochs, each of several passes, of SGD
with learning rate 1e-3 * 0.985^epoch, weight decay 1e-5, batches of 128. Images are scaled to 240 x 240 as a whole;
in training half of them are cropped to 224 and half scaled to it, at test time all are scaled: a crop would hide the
border from the person who looks for defects. Here the scaling is antialiased, where the authors took nearest pixels.
"""

from __future__ import annotations

from ..experiment import Augmentation, Data, Experiment, Exponential, Exposure, Form, Heatmap, Network, Noise, Sgd

CLASSES: dict[str, str] = {}
FORM = Form(side=240, channels=3, quality=95)


def experiment(nominal: str, seed: int) -> Experiment:
    return Experiment(
        data=Data(recipe="folder", nominal=nominal, form=FORM, normalization="lcn-minmax", repeats=10,
                  window=256),
        exposure=Exposure(order_seed=seed),
        network=Network(name="fcdd224"),
        augmentation=Augmentation(jitter=((0.04, 0.04, 0.04, 0.04), (0.005, 0.0005, 0.0005, 0.0005)),
                                  crop="random-or-resize",
                                  noise=Noise(std=0.1, probability=0.5, relative=True, clamp=True)),
        optimizer=Sgd(lr=1e-3, momentum=0.9, nesterov=True, weight_decay=1e-5),
        schedule=Exponential(factor=0.985),
        heatmap=Heatmap(eta=0.97),
        batch_size=128, epochs=200, seed=seed)
