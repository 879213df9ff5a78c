"""The trained network as the integers of a model file."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xsarcomp.codec.network.arithmetic import ActivationQuantizer, IntegerConv2d
from xsarcomp.models.refiner.network import LatentRefiner, StepCondition


def integer_arrays(refiner: LatentRefiner) -> dict[str, NDArray]:
    """Arrays of a trained network as they stand in a model file: names and shapes are in ``docs/format.md``, section 4."""
    arrays: dict[str, Tensor] = {}
    for name, module in refiner.named_modules():
        if isinstance(module, IntegerConv2d):
            # (output, input, row, column) -> (row, column, input, output): the columns of a matrix product
            arrays[f"{name}.levels"] = (
                module.levels().permute(2, 3, 1, 0).reshape(-1, module.out_channels).to(torch.int8)
            )
            arrays[f"{name}.units"] = module.units().float()
            arrays[f"{name}.bias"] = module.bias.float()
        elif isinstance(module, StepCondition):
            arrays[f"{name}.coefficients"] = module.coefficients.float()
        elif isinstance(module, ActivationQuantizer):
            arrays[f"{name}.unit"] = module.unit.float().reshape(1)
    # copies: further training must not change what was taken
    return {name: np.array(tensor.detach().cpu().numpy(), order="C") for name, tensor in arrays.items()}
