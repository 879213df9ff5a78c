"""The trained network to the integers of a model file, and back to begin a training with them."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsarcomp.codec.network.arithmetic import ActivationQuantizer, IntegerConv2d
from xsarcomp.errors import ConfigurationError
from xsarcomp.models.refiner.network import LatentRefiner, StepCondition


def integer_arrays(refiner: LatentRefiner) -> dict[str, NDArray]:
    """Convert a trained network to the arrays of a model file.

    Parameters
    ----------
    refiner : LatentRefiner

    Returns
    -------
    dict of str to ndarray
        Copies on the CPU; names, dtypes and shapes are those of ``docs/format.md``, section 4.
    """
    arrays: dict[str, Tensor] = {}
    for name, module in refiner.named_modules():
        if isinstance(module, IntegerConv2d):
            # (output, input, row, column) -> (row, column, input, output): the columns of a matrix product
            arrays[f"{name}.levels"] = (
                module.levels().permute(2, 3, 1, 0).reshape(-1, module.out_channels).to(torch.int8)
            )
            arrays[f"{name}.units"] = module.units().float()
            arrays[f"{name}.bias"] = module.get_parameter("bias").float()
        elif isinstance(module, StepCondition):
            arrays[f"{name}.coefficients"] = module.coefficients.float()
        elif isinstance(module, ActivationQuantizer):
            arrays[f"{name}.unit"] = module.unit.float().reshape(1)
    # copies, so that further training does not change them
    return {name: np.array(tensor.detach().cpu().numpy(), order="C") for name, tensor in arrays.items()}


@torch.no_grad()
def load_integer_arrays(refiner: LatentRefiner, arrays: Mapping[str, NDArray]) -> None:
    """Give a network the weights of a model file; the inverse of :func:`integer_arrays`, but for rounding.

    Parameters
    ----------
    refiner : LatentRefiner
        Changed in place.
    arrays : mapping of str to ndarray
        As :func:`integer_arrays` returned them.

    Raises
    ------
    ConfigurationError
        If the network has other sizes.
    """
    expected = integer_arrays(refiner)
    if {name: array.shape for name, array in arrays.items()} != {name: array.shape for name, array in expected.items()}:
        raise ConfigurationError(
            "the network of the model that the training starts from has other sizes: give channels and blocks as it has them"
        )
    values = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
    for name, module in refiner.named_modules():
        if isinstance(module, IntegerConv2d):
            rows, columns = module.kernel_size
            weights = values[f"{name}.levels"] * values[f"{name}.units"]
            weights = weights.reshape(rows, columns, module.in_channels, module.out_channels)
            module.weight.copy_(weights.permute(3, 2, 0, 1))
            module.get_parameter("bias").copy_(values[f"{name}.bias"])
        elif isinstance(module, StepCondition):
            module.coefficients.copy_(values[f"{name}.coefficients"])
        elif isinstance(module, ActivationQuantizer):
            module.logarithm.copy_(values[f"{name}.unit"].log().reshape(()))
