"""Monitoring of a training: curves and images for TensorBoard, and the health of the latents."""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from xsarcomp.errors import DimensionError, MissingDependencyError
from xsarcomp.training.loop import StepReport

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def latent_health(latents: Tensor, *, dead_below: float = 1e-6) -> dict[str, float]:
    """Summarize latents so that a collapse is seen early.

    Parameters
    ----------
    latents : Tensor of floating point, shape (tile, latent, y, x)
        Output of an analysis transform.
    dead_below : float
        Standard deviation over tiles and space below which a channel counts as dead: it carries nothing.

    Returns
    -------
    dict of float
        "latent_mean", "latent_std", "latent_min", "latent_max", and "latent_dead" (number of dead channels).

    Raises
    ------
    DimensionError
        If `latents` has fewer than two dimensions or no elements.
    """
    if latents.ndim < 2 or latents.numel() == 0:
        raise DimensionError(
            f"latents have shape {tuple(latents.shape)}, expected (tile, latent, y, x) with elements. "
            "Pass the output of the analysis transform."
        )
    latents = latents.detach().float()
    by_channel = latents.transpose(0, 1).flatten(1)  # (latent, tile * y * x)
    return {
        "latent_mean": latents.mean().item(),
        "latent_std": latents.std(correction=0).item(),
        "latent_min": latents.min().item(),
        "latent_max": latents.max().item(),
        "latent_dead": float((by_channel.std(dim=1, correction=0) < dead_below).sum()),
    }


def log_to_tensorboard(reports: Iterable[StepReport], folder: str | os.PathLike[str]) -> Iterator[StepReport]:
    """Write reports for TensorBoard while they pass.

    Parameters
    ----------
    reports : iterable of StepReport
        Such as `training_loop` yields.
    folder : path
        Folder of the event files; created where absent.

    Returns
    -------
    iterator of StepReport
        The same reports, in the same order.

    Raises
    ------
    MissingDependencyError
        At once, if tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError(
            "writing training curves needs tensorboard, which is not installed. "
            'Install it with: pip install "xsarcomp[train]", or iterate over the reports without it.'
        ) from error
    return _written(reports, SummaryWriter(os.fspath(folder)))


def _written(reports: Iterable[StepReport], writer: "SummaryWriter") -> Iterator[StepReport]:
    """Write reports and pass them on; the files are closed when the caller stops."""
    with writer:
        for report in reports:
            part = "validation" if report.is_validation else "training"
            for name, value in report.scalars.items():
                writer.add_scalar(f"{part}/{name}", value, report.step)
            if not report.is_validation:
                writer.add_scalar("training/learning_rate", report.learning_rate, report.step)
                writer.add_scalar("training/seconds", report.seconds, report.step)
            for name, image in report.images.items():
                writer.add_image(f"{part}/{name}", image, report.step, dataformats="HW")
            for name, values in report.histograms.items():
                writer.add_histogram(f"{part}/{name}", values, report.step)
            yield report
