"""An experiment on digits that takes seconds."""

import pytest

from fcdd_dist.recipes import recipe


@pytest.fixture(scope="session")
def digits_experiment():
    """Eight steps an epoch over all augmentations, of uneven lanes, so that every cut is crossed."""
    return recipe("digits").experiment("0", 0).override([
        "batch_size=62", "lanes=5", "data.window=16", "epochs=2",
        "augmentation.jitter=[[0.05,0.05,0,0]]", "augmentation.flip=0.5",
        'augmentation.noise={"std":0.01,"probability":0.5}'])
