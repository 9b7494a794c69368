"""Fashion-MNIST as in the paper: Appendix B (net), C (schedule, LCN) and the authors' published command.

400 epochs of SGD with Nesterov momentum, learning rate 0.01 * 0.98^epoch, weight decay 1e-6, batches of 128.
Augmentation: zero padding of 2 with random crops, horizontal flips. Normalisation: local contrast normalisation
(L1), then scaling by the minimum and maximum of the nominal class. Exposure in the paper: grey CIFAR-100, or EMNIST.
"""

from __future__ import annotations

from ..experiment import Augmentation, Data, Experiment, Exponential, Exposure, Form, Heatmap, Network, Sgd

CLASSES = {"t-shirt_top": "T-shirt/top", "trouser": "Trouser", "pullover": "Pullover", "dress": "Dress",
           "coat": "Coat", "sandal": "Sandal", "shirt": "Shirt", "sneaker": "Sneaker", "bag": "Bag",
           "ankle_boot": "Ankle boot"}
FORM = Form(side=28, channels=1, quality=None)


def experiment(nominal: str, seed: int) -> Experiment:
    return Experiment(
        data=Data(recipe="fmnist", nominal=nominal, form=FORM, normalization="lcn-minmax"),
        exposure=Exposure(order_seed=seed),
        network=Network(name="fcdd28"),
        augmentation=Augmentation(crop="pad", padding=2, flip=0.5),
        optimizer=Sgd(lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-6),
        schedule=Exponential(factor=0.98),
        heatmap=Heatmap(eta=0.93),
        batch_size=128, epochs=400, seed=seed)
