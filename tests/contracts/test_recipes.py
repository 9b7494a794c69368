"""What every recipe promises. Golden ids: a changed recipe is a visible change here."""

import pytest

from fcdd_dist.data.manifest import CLASS_ID
from fcdd_dist.errors import BadInput
from fcdd_dist.experiment import Experiment
from fcdd_dist.model.architectures import check_fit
from fcdd_dist.recipes import RECIPES, recipe

GOLDEN = {"digits": "469ec7cb11ccaaad", "fmnist": "198f5f8d18ee8b60",
          "cifar10": "8092bd0e8a2b9a2e", "imagenet30": "97389fa3be591c52", "folder": "076b3d2f28e45da2"}


def nominal(name):
    return next(iter(RECIPES[name].classes), "good")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name):
    found = recipe(name)
    experiment = found.experiment(nominal(name), 3)
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert (found.name, experiment.data.recipe, experiment.data.form) == (name, name, found.form)
    assert experiment.seed == experiment.exposure.order_seed == 3
    assert found.experiment(nominal(name), 4).id != experiment.id
    assert all(CLASS_ID.fullmatch(class_id) for class_id in found.classes)
    check_fit(experiment)
    assert found.experiment(nominal(name), 0).id == GOLDEN[name]


def test_every_recipe_has_a_golden_id():
    assert set(GOLDEN) == set(RECIPES)


def test_an_unknown_recipe():
    with pytest.raises(BadInput, match=r"no recipe 'cifar'.*did you mean 'cifar10'.*digits, fmnist, cifar10"):
        recipe("cifar")


def test_the_papers_schedules():
    """Reference values: lr at epochs 0, 1, 100, 399 of Fashion-MNIST; the milestones of CIFAR-10."""
    fmnist, cifar = (recipe(name).experiment(nominal(name), 0) for name in ("fmnist", "cifar10"))
    for epoch, lr in ((0, 0.01), (1, 0.0098), (100, 0.00132619556), (399, 3.15648843e-6)):
        assert fmnist.optimizer.lr * fmnist.schedule.scale(epoch) == pytest.approx(lr, rel=1e-8)
    for epoch, lr in ((0, 1e-3), (399, 1e-3), (400, 1e-4), (499, 1e-4), (500, 1e-5), (599, 1e-5)):
        assert cifar.optimizer.lr * cifar.schedule.scale(epoch) == pytest.approx(lr, rel=1e-12)
    folder = recipe("folder").experiment("good", 0)
    for epoch, lr in ((0, 0.001), (1, 0.000985), (100, 0.000220608910), (199, 4.94094329e-5)):
        assert folder.optimizer.lr * folder.schedule.scale(epoch) == pytest.approx(lr, rel=1e-8)


def test_a_shortened_schedule_is_the_same_curve_in_fewer_epochs():
    cifar = recipe("cifar10").experiment("ship", 0).override(["schedule.shorten=15"])
    assert [cifar.schedule.scale(epoch) for epoch in (0, 26, 27, 33, 34)] == pytest.approx([1, 1, .1, .1, .01])
    fmnist = recipe("fmnist").experiment("bag", 0).override(["schedule.shorten=10"])
    assert fmnist.schedule.scale(7) == pytest.approx(0.98**70)
