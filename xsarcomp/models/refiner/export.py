"""Export of the trained network to the integers of a model file."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsarcomp.codec.network.arithmetic import ActivationQuantizer, IntegerConv2d
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
