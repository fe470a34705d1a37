"""Distortion of the online clustering against offline k-means and the released rule."""

from __future__ import annotations

from flash_vstream_ros.bench.distortion import compare


def test_distortion_is_at_most_that_of_offline_kmeans_and_half_of_the_released_rule() -> None:
    ratios = compare(length=1200, seed=0, capacity=60, patches=4, dim=32)
    assert ratios["ward/kmeans"] <= 1.0
    assert ratios["ward/released"] <= 0.5
    assert ratios["hierarchical/kmeans"] <= 1.0
    assert ratios["hierarchical/released"] <= 0.5
