"""The ``.sarcomp`` accessor of DataArray."""

from typing import Any

import xarray as xr

from xsarcomp.accessor import Accessor
from xsarcomp.errors import DimensionError

UNNAMED = "backscatter"  # name in a latents store of an array without one


@xr.register_dataarray_accessor("sarcomp")
class DataArrayAccessor(Accessor):
    """``array.sarcomp``: learned compression of one array of backscatter."""

    def _dataset(self) -> xr.Dataset:
        return self._obj.to_dataset(name=UNNAMED if self._obj.name is None else self._obj.name)

    def _names(self) -> list:
        return [UNNAMED if self._obj.name is None else self._obj.name]

    def encoding(self, **request: Any) -> dict:
        """As for a Dataset; the array needs a name, because ``to_zarr`` finds the encoding by it."""
        if self._obj.name is None:
            raise DimensionError("the array has no name, by which to_zarr would find its encoding: array.rename('vv')")
        return super().encoding(**request)

    def decode(self, *, restore: str | None = None) -> xr.DataArray:
        """Refused with advice: latents are a Dataset, so that the mask stays with them.

        Raises
        ------
        NotEncodedError
            Always.
        """
        from xsarcomp.errors import NotEncodedError

        raise NotEncodedError(
            "decode() works on the Dataset that encode() returned, of which this array is a part: dataset.sarcomp.decode()"
        )
