"""Where to compute."""

from __future__ import annotations

import torch

from selfalign_cli.errors import RecipeError
from selfalign_cli.launch import launched, local_number


def choose_device(name: str) -> torch.device:
    """Turn auto, cpu or cuda into a device; processes of `torchrun` take a GPU each.

    Raises:
        RecipeError: another name, no GPU, or fewer of them than processes.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"--device {name}: expected auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError(
            "--device cuda: this torch sees no CUDA device", "leave --device out, or install a CUDA build of torch"
        )
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    # By default torch lets cuDNN round recurrent layers and convolutions to ten bits, but not matrix products.
    torch.backends.cudnn.allow_tf32 = False
    if launched():
        if local_number() >= torch.cuda.device_count():
            raise RecipeError(
                f"process {local_number()} here has no GPU of its own: torch sees {torch.cuda.device_count()}",
                "start as many processes as there are GPUs (--nproc-per-node), or add --device cpu",
            )
        torch.cuda.set_device(local_number())
        return torch.device("cuda", local_number())
    return torch.device("cuda")
