import numpy as np
import pytest

from big_ssl.evaluation import collapse


def simplex(points):
    """Corners of a regular simplex; on the unit sphere all are 2 points / (points - 1) apart^2."""
    return np.eye(points) - 1 / points


def test_uniformity_of_a_simplex():
    for points in (2, 3, 10):
        expected = -2 * 2 * points / (points - 1)
        assert collapse.uniformity(7 * simplex(points)) == pytest.approx(expected)
    assert collapse.uniformity(simplex(5), t=0.5) == pytest.approx(-0.5 * 2.5)


def test_uniformity_of_a_collapse_is_zero():
    assert collapse.uniformity(np.ones((8, 3), np.float32)) == pytest.approx(0, abs=1e-12)


def test_uniformity_does_not_underflow():
    assert collapse.uniformity(np.array([[1.0, 0], [-1, 0]]), t=1000) == pytest.approx(-4000)


def test_uniformity_of_one_embedding_is_refused():
    with pytest.raises(ValueError, match='at least two'):
        collapse.uniformity(np.ones((1, 3)))


def test_alignment_by_angle():
    angles = np.array([0.0, np.pi / 3, np.pi / 2, np.pi])
    z = np.stack([np.ones_like(angles) * 1.0, angles * 0, np.cos(angles), np.sin(angles)], axis=1)
    z = z.reshape(4, 2, 2) * np.array([2.0, 5.0])[None, :, None]
    assert collapse.alignment(z) == pytest.approx(np.mean(2 - 2 * np.cos(angles)))


def test_effective_rank_in_closed_form():
    assert collapse.effective_rank(np.eye(12)) == pytest.approx(12)
    assert collapse.effective_rank(np.ones((9, 5), np.float32)) == pytest.approx(1, abs=1e-6)
    assert collapse.effective_rank(np.diag([3.0, 1.0])) == pytest.approx(
        np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    )
    assert collapse.effective_rank(np.zeros((4, 4))) == 0


def test_effective_rank_is_not_centred():
    offset = 1000 * np.ones((50, 1)) + np.random.default_rng(0).normal(size=(50, 10))
    assert collapse.effective_rank(offset) < 1.5
