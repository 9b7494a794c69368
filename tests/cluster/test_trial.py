"""What a trial tells Tune, without Ray."""

from __future__ import annotations

from fcdd_dist.cluster import trial as module
from fcdd_dist.recipes import recipe
from fcdd_dist.run import Job


def test_what_a_trial_says_is_told_when_it_says_it(monkeypatch, tmp_path):
    told, before_the_end = [], []

    def alone(job, config, say):
        say("going on from checkpoint epoch-000003")
        before_the_end.extend(told)
        return {"auroc": 0.75}

    monkeypatch.setattr("ray.tune.report", told.append)
    monkeypatch.setattr(module, "_alone", alone)
    monkeypatch.setattr(module, "expect_up", lambda: None)  # it holds for the process, which here has other tests
    monkeypatch.setattr(module, "write_hparams", lambda *what: None)
    job = Job(experiment=recipe("digits").experiment("0", 0), data="/data", exposure=None, run=str(tmp_path))
    module.trial({"job": job.to_json(), "workers": 1, "parameters": {}})
    assert before_the_end == [{"said": "going on from checkpoint epoch-000003"}]
    assert told[1:] == [{"state": "done", "result": {"auroc": 0.75}, "reason": None, "diverged": False}]
