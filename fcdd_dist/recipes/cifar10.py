"""CIFAR-10 as in the paper: Appendix B (net), C (schedule) and the authors' published command.

600 epochs of Adam, learning rate 1e-3, a tenth of it from epoch 400 and again from 500, weight decay 1e-6, batches
of 200. Augmentation: colour jitter of 0.01, zero padding of 4 with random crops, horizontal flips, Gaussian noise of
0.001. Normalisation: mean and standard deviation of the nominal class. Exposure in the paper: CIFAR-100.
"""

from __future__ import annotations

from ..experiment import Adam, Augmentation, Data, Experiment, Exposure, Form, Heatmap, Milestones, Network, Noise

CLASSES = {name: name for name in ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                                   "truck")}
FORM = Form(side=32, channels=3, quality=None)


def experiment(nominal: str, seed: int) -> Experiment:
    return Experiment(
        data=Data(recipe="cifar10", nominal=nominal, form=FORM, normalization="mean-std"),
        exposure=Exposure(order_seed=seed),
        network=Network(name="fcdd32"),
        augmentation=Augmentation(jitter=((0.01, 0.01, 0.01, 0.01),), crop="pad", padding=4, flip=0.5,
                                  noise=Noise(std=0.001)),
        optimizer=Adam(lr=1e-3, weight_decay=1e-6),
        schedule=Milestones(milestones=(400, 500), factor=0.1),
        heatmap=Heatmap(eta=0.93),
        batch_size=200, epochs=600, seed=seed)
