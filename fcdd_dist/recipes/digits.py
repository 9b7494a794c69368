"""scikit-learn's bundled digits: a toy set that comes along, for the quickstart and the tests. Not in the paper.

About 140 training images a class, 8 x 8 px scaled to 28 x 28. The net and the normalisation are those of
Fashion-MNIST; digits are not flipped. Batches are small, since a class has so few images.
"""

from __future__ import annotations

from ..experiment import Augmentation, Data, Experiment, Exponential, Exposure, Form, Heatmap, Network, Sgd

CLASSES = {str(digit): f"digit {digit}" for digit in range(10)}
FORM = Form(side=28, channels=1, quality=None)


def experiment(nominal: str, seed: int) -> Experiment:
    return Experiment(
        data=Data(recipe="digits", nominal=nominal, form=FORM, normalization="lcn-minmax", repeats=4),
        exposure=Exposure(order_seed=seed),
        network=Network(name="fcdd28"),
        augmentation=Augmentation(crop="pad", padding=2),
        optimizer=Sgd(lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-6),
        schedule=Exponential(factor=0.98),
        heatmap=Heatmap(eta=0.93),
        batch_size=64, epochs=60, seed=seed)
