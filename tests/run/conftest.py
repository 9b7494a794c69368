"""A data set of scikit-learn's digits, and an experiment on it that takes seconds."""

import pytest

from fcdd_dist.data.shards.write import shard
from fcdd_dist.recipes import recipe
from fcdd_dist.storage import FolderStore


@pytest.fixture(scope="session")
def digits_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    shard("digits", None, FolderStore(folder))
    return str(folder)


@pytest.fixture(scope="session")
def digits_experiment():
    """Eight steps an epoch over all augmentations, of uneven lanes, so that every cut is crossed."""
    return recipe("digits").experiment("0", 0).override([
        "batch_size=62", "lanes=5", "data.window=16", "epochs=2",
        "augmentation.jitter=[[0.05,0.05,0,0]]", "augmentation.flip=0.5",
        'augmentation.noise={"std":0.01,"probability":0.5}'])
