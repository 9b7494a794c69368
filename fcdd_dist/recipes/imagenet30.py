"""ImageNet as in the paper: 30 classes of ILSVRC2012, one against the others (Appendix B and C, Table 5).

600 epochs of Adam, learning rate 1e-3, a tenth of it from epoch 400 and again from 500, weight decay 1e-6, batches of
200. Augmentation: colour jitter of 0.01, horizontal flips, random crops of 224, Gaussian noise of 0.001. Tested are the
centres of the validation images. Normalisation: the constants of ImageNet. Exposure in the paper: ImageNet22k without
the classes of ImageNet-1k; the published code leaves out these 30 alone (``--exclude benchmark30``). Images are stored
as squares of 256 px, as the paper says; the published code keeps the aspect (``--form short-side-256``).
"""

from __future__ import annotations

from ..experiment import Adam, Augmentation, Data, Experiment, Exposure, Form, Heatmap, Milestones, Network, Noise

# The order of the paper's Table 5 and of the authors' code; ids are those of WordNet.
CLASSES = {
    "n12267677": "acorn", "n02690373": "airliner", "n02701002": "ambulance", "n01698640": "American alligator",
    "n02787622": "banjo", "n02793495": "barn", "n02837789": "bikini", "n03196217": "digital clock",
    "n02268443": "dragonfly", "n03255030": "dumbbell", "n03384352": "forklift", "n03443371": "goblet",
    "n03452741": "grand piano", "n07697537": "hotdog", "n03544143": "hourglass", "n03717622": "manhole cover",
    "n03788195": "mosque", "n03804744": "nail", "n03891332": "parking meter", "n03938244": "pillow",
    "n04086273": "revolver", "n03187595": "rotary dial telephone", "n04147183": "schooner", "n04252077": "snowmobile",
    "n04254680": "soccer ball", "n01498041": "stingray", "n07745940": "strawberry", "n04389033": "tank",
    "n04442312": "toaster", "n09472597": "volcano"}
FORM = Form(side=256, channels=3, quality=90)


def experiment(nominal: str, seed: int) -> Experiment:
    return Experiment(
        data=Data(recipe="imagenet30", nominal=nominal, form=FORM, normalization="imagenet", window=256),
        exposure=Exposure(order_seed=seed),
        network=Network(name="fcdd224"),
        augmentation=Augmentation(jitter=((0.01, 0.01, 0.01, 0.01),), crop="random", flip=0.5, noise=Noise(std=0.001)),
        optimizer=Adam(lr=1e-3, weight_decay=1e-6),
        schedule=Milestones(milestones=(400, 500), factor=0.1),
        heatmap=Heatmap(eta=0.97),
        batch_size=200, epochs=600, seed=seed)
