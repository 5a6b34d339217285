import csv

import numpy as np
from PIL import Image

from benchmarks.photographs import textured, write_photographs


def test_amplitudes_fall_as_one_over_the_frequency():
    """The slope of log amplitude over log frequency, rings of the spectrum's mean."""
    side = 256
    spectrum = np.mean([abs(np.fft.fft2(textured(side, side, seed).mean(axis=-1)))
                        for seed in range(4)], axis=0)  # fmt: skip
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    edges = np.geomspace(4 / side, 0.4, 9)
    rings = [(frequency >= low) & (frequency < high) for low, high in zip(edges, edges[1:])]
    amplitudes = [spectrum[ring].mean() for ring in rings]
    middles = [frequency[ring].mean() for ring in rings]
    slope = np.polyfit(np.log(middles), np.log(amplitudes), 1)[0]
    assert -1.15 < slope < -0.85


def test_colours_go_together():
    red, green, _ = np.moveaxis(textured(128, 128), -1, 0).reshape(3, -1).astype(float)
    assert 0.8 < np.corrcoef(red, green)[0, 1] < 0.99


def test_files_and_their_table(tmp_path):
    table = write_photographs(tmp_path / 'images', 4, 24, 32, images_per_case=2, val=2)
    rows = list(csv.DictReader(table.open()))
    assert [row['case_id'] for row in rows] == ['case 0', 'case 0', 'case 1', 'case 1']
    assert [row['split'] for row in rows] == ['val', 'val', 'train', 'train']
    for row in rows:
        assert Image.open(table.parent / row['image_path']).size == (32, 24)
