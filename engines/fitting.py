"""Whether a panel's frames are what a recipe was taught and a station was measured for; reads no pixel."""

from numpy.typing import NDArray

from engines.errors import PanelError
from engines.recipe import Manifest, Tiles
from engines.signature import LEAST_PX
from engines.station import StationCalibration


class GeometryError(PanelError):
    """A panel's frames do not have the count, depth or size that the recipe expects."""

    fault = "GEOMETRY"


class Fitting:
    """Channels, depth and size of panels, and of a recipe's golden ones."""

    def __init__(self, manifest: Manifest, calibration: StationCalibration) -> None:
        geometry = manifest.geometry
        self._channels, self._dtype = len(manifest.channels), manifest.dtype
        self._size, self._golden_size = (geometry.panel, geometry.piece) if isinstance(geometry, Tiles) else (None,) * 2
        self._least_px = LEAST_PX if manifest.integrity else 1
        self._gain = calibration.gain

    def check(self, panel: NDArray) -> None:
        """Raise where `panel` is not [C, H, W] as the recipe expects.

        Raises:
            GeometryError: what differs; its attribute `fault` names the line's fault.
        """
        self._check(panel, self._size)
        if min(panel.shape[1:]) < self._least_px:
            raise GeometryError(
                f"panel is {panel.shape}; at least {self._least_px} px are needed to check its integrity"
            )

    def check_golden(self, panel: NDArray) -> None:
        """As `check`, for a golden panel: a recipe in tiles has pieces."""
        self._check(panel, self._golden_size)

    def _check(self, panel: NDArray, size: tuple[int, int] | None) -> None:
        expected = f"expected {self._channels} channels {self._dtype}"
        if panel.ndim != 3 or panel.shape[0] != self._channels:
            raise GeometryError(f"panel is {panel.shape}, {expected}")
        if panel.dtype != self._dtype:
            raise GeometryError(f"panel is {panel.dtype}, {expected}")
        if size and panel.shape[1:] != size:
            height, width = size
            raise GeometryError(f"panel is {panel.shape}; taught were panels of {height} x {width} px")
        if min(panel.shape) < 1 or (self._gain is not None and self._gain.shape != panel.shape):
            raise GeometryError(f"panel is {panel.shape}, the station was measured for another size")
