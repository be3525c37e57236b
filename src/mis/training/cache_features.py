"""Computes the frozen vision tower's outputs for every picture that training or a benchmark will show."""

from __future__ import annotations

import torch

from mis import layout
from mis.mixing import read_mixture
from mis.mixtures import ARMS
from mis.models.checkpoint import load_checkpoint
from mis.models.families import family_of
from mis.models.features import FeatureStore, views_of
from mis.progress import track
from mis.settings import Settings
from mis.suites import load_samples
from mis.training.train import locate


def cache_features(settings: Settings, model_name: str, seed: int) -> None:
    """Fill `B/features/<model>/seed<S>`: each picture once, for all arms, epochs and benchmarks.

    Where pictures are cut, once for each way in which a sample shows it.
    """
    model, processor = load_checkpoint(layout.checkpoint(settings, model_name, seed, "base"))
    pretraining = settings.models[model_name].pretraining
    torch.set_num_threads(pretraining.threads if pretraining else settings.training.threads)
    tower = family_of(model).take_tower(model).eval()
    store = FeatureStore(layout.features(settings, model_name, seed), tower, processor)
    shown = {
        tuple(locate(settings, image) for image in example.images)
        for arm in settings.arms_of(model_name)
        if ARMS[arm].trained
        for example in read_mixture(layout.mixture(settings, arm))
    }
    for benchmarks in settings.evaluation.suites.values():
        shown.update(sample.images for sample in load_samples(settings, benchmarks))
    if family_of(processor).cuts(processor):
        wanted = sorted({pair for paths in shown for pair in zip(paths, views_of(processor, paths), strict=True)})
        paths, views = [path for path, _ in wanted], [view for _, view in wanted]
    else:
        paths, views = sorted({path for paths in shown for path in paths}), []
    with track(len(paths), f"{model_name}, seed {seed}: pictures") as advance:
        store.fill(paths, advance, views)
