"""A whole detector small enough to foresee: how far each pixel's green is from the middle."""

import numpy as np

from subspect.calibration import calibrate
from subspect.detectors.base import Detector, Prediction
from subspect.detectors.config import DetectorConfig


class AnySize(DetectorConfig):
    """Pictures stay as large as they are: the image size is None."""

    def __post_init__(self):
        pass


class BrightnessDetector(Detector):
    """Map: |green - 0.5|; score: the map's maximum. Calibrated, mid-grey ± 0.1 is normal."""

    method = "brightness"

    def __init__(self, image_size=(32, 32), *, calibrated=True, tiling=None):
        super().__init__()
        self.config = (AnySize if image_size is None else DetectorConfig)(image_size=image_size, tiling=tiling)
        if calibrated:
            levels = [index / 1000 for index in range(100)]
            self.calibration = calibrate(levels, [np.array(levels, dtype=np.float32)], 0.01)
        self.batches = []

    def forward(self, images):
        self.batches.append(tuple(images.shape))
        anomaly_map = (images[:, 1:2] - 0.5).abs()
        return Prediction(anomaly_map, anomaly_map.amax(dim=(1, 2, 3)))

    def stages(self, images, seed):
        return ()

    def inner_pictures(self, images):
        return {"negative": 1 - images}
